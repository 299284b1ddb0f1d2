"""Folding the batches of one round into one shard, and what becomes of records that cannot be folded.

The quick way folds everything in one go. Where a record cannot be decoded, a handler raises, or dead letters come back,
the unit is thrown away and the round is folded again record by record: see `CarefulFold`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

from app.kernel.errors import RetryablePipelineError, UndecodableMessage
from app.runtime.careful import CarefulFold, instructions_for
from app.runtime.dead_letters import PARKED
from app.runtime.folded import Folded, Piece, Work, comes_back, name_of, new_records, new_unit
from app.runtime.parking import WAITS, DeadLetters
from app.runtime.ports import Record, TopicPartition
from app.runtime.shard import Shard

log = logging.getLogger(__name__)


def fold_round(shard: Shard, pieces: Sequence[Piece], dead_letters: str, *, carefully: bool = False) -> Folded:
    """Fold all pieces, in order, into a fresh unit of work. `dead_letters` is the agent's topic for what fails.

    `carefully` takes the way record by record at once, and also parks what would not fit into a batch.
    """
    live = [piece for piece in pieces if not comes_back(shard, piece)]
    told = any(instructions_for(shard, piece) for piece in pieces if comes_back(shard, piece))
    if not told and not carefully:
        try:
            return _fold_quickly(shard, live, dead_letters)
        except RetryablePipelineError:
            raise  # the store's fault, not a record's
        except Exception as error:  # noqa: BLE001 - the record by record way below finds and parks the culprit
            log.info("%s/%s folds record by record: %r", shard.agent.name, shard.partition, error)
    return CarefulFold(shard, pieces, dead_letters).fold()


def _fold_quickly(shard: Shard, pieces: Sequence[Piece], dead_letters: str) -> Folded:
    work = [new_records(shard, piece) for piece in pieces]
    unit = new_unit(shard, work)
    folded = Folded(unit, records=sum(len(records) for records, _ in work))
    if shard.parked:
        letters = DeadLetters(shard, unit, dead_letters)
        work = [
            _without_parked(one, batch.partition, letters, folded) for one, (batch, _) in zip(work, pieces, strict=True)
        ]
    fold, undecodable = shard.agent.fold, shard.agent.undecodable
    for records, messages in work:
        for record, message in zip(records, messages, strict=True):
            if message.__class__ is not UndecodableMessage:
                fold(unit, record, message)
            elif undecodable is not None:
                undecodable(unit, record, message)
            else:
                raise message
        for kind, count in Counter(map(name_of, messages)).items():
            folded.events[kind, "processed"] += count
    return folded


def _without_parked(work: Work, source: TopicPartition, letters: DeadLetters, folded: Folded) -> Work:
    """Put the records of parked keys aside: one poisoned aggregate does not even make the others slow."""
    on: list[tuple[Record, Any]] = []
    for record, message in zip(*work, strict=True):
        if message.__class__ is not UndecodableMessage and letters.is_parked(record.key):
            folded.events[name_of(message), PARKED] += 1
            letters.put_aside(record, source, PARKED, WAITS)
        else:
            on.append((record, message))
    return [record for record, _ in on], [message for _, message in on]
