"""Folding the batches of one round into one shard, and what becomes of records that cannot be folded.

The quick way folds everything in one go. Where a record cannot be decoded, a handler raises, or a sequence is parked,
the unit is thrown away and the round is folded again record by record: the culprit goes to the dead letters with its
cause, whole, and with it the key's later records, in order. Other keys go on.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from app.kernel.errors import RetryablePipelineError, UndecodableMessage
from app.runtime.batch import Batch
from app.runtime.outbox import check_size
from app.runtime.ports import Header, Record
from app.runtime.shard import PARKED_PREFIX, Shard
from app.runtime.table import Table
from app.runtime.unit import UnitOfWork

log = logging.getLogger(__name__)

UNDECODABLE, RAISED, PARKED = "undecodable", "raised", "parked"
PARKED_ROWS: Table[int] = Table.reserved(PARKED_PREFIX, int)
CAUSE_BYTES_MAX = 1_000

Piece = tuple[Batch, int]
"""A batch and the position from which on it is new to the shard."""


@dataclass
class Folded:
    """A shard's part of a round. `events` counts messages by (type name, status)."""

    unit: UnitOfWork
    events: Counter[tuple[str, str]] = field(default_factory=Counter)
    records: int = 0
    parked: frozenset[bytes] = frozenset()


def fold_round(shard: Shard, pieces: Sequence[Piece], dead_letters: str, *, carefully: bool = False) -> Folded:
    """Fold all pieces, in order, into a fresh unit of work. `dead_letters` is the agent's topic for what fails.

    `carefully` takes the way record by record at once, and also parks what would not fit into a batch.
    """
    if not shard.parked and not carefully:
        try:
            return _fold_quickly(shard, pieces)
        except RetryablePipelineError:
            raise  # the store's fault, not a record's
        except Exception as error:  # noqa: BLE001 - the record by record way below finds and parks the culprit
            log.info("%s/%s folds record by record: %r", shard.agent.name, shard.partition, error)
    return _fold_carefully(shard, pieces, dead_letters)


def _new_records(shard: Shard, piece: Piece) -> tuple[Sequence[Record], list[Any]]:
    batch, position = piece
    records, messages = batch.records, batch.messages(shard.agent.decode_of(batch.partition.topic))
    if records and records[0].offset < position:
        first = next((i for i, record in enumerate(records) if record.offset >= position), len(records))
        return records[first:], messages[first:]
    return records, messages


def _unit(shard: Shard, work: Sequence[tuple[Sequence[Record], list[Any]]]) -> UnitOfWork:
    unit, agent = UnitOfWork(shard.partition, shard.opened()), shard.agent
    if agent.ahead is None:
        return unit
    prefix, key_of = agent.ahead.prefix, agent.ahead_key
    if key_of is None:
        unit.fetch_ahead(prefix + record.key for records, _ in work for record in records if record.key)
    else:
        decoded = (m for _, messages in work for m in messages if m.__class__ is not UndecodableMessage)
        unit.fetch_ahead(prefix + key_of(message) for message in decoded)
    return unit


def _fold_quickly(shard: Shard, pieces: Sequence[Piece]) -> Folded:
    work = [_new_records(shard, piece) for piece in pieces]
    unit = _unit(shard, work)
    folded = Folded(unit)
    fold = shard.agent.fold
    for records, messages in work:
        for record, message in zip(records, messages, strict=True):
            if message.__class__ is UndecodableMessage:
                raise message
            fold(unit, record, message)
        folded.records += len(records)
        for kind, count in Counter(map(_name_of, messages)).items():
            folded.events[kind, "processed"] += count
    return folded


def _name_of(message: Any) -> str:
    inner = getattr(message, "message", message)
    return getattr(inner, "wire_name", None) or type(inner).__name__


def _fold_carefully(shard: Shard, pieces: Sequence[Piece], dead_letters: str) -> Folded:
    work = [_new_records(shard, piece) for piece in pieces]
    folded = Folded(_unit(shard, work))
    parked = set(shard.parked)
    for (records, messages), (batch, _) in zip(work, pieces, strict=True):
        for record, message in zip(records, messages, strict=True):
            folded.records += 1
            cause = _fold_one(shard, folded.unit, record, message, parked)
            if cause is None:
                folded.events[_name_of(message), "processed"] += 1
                continue
            folded.events[_name_of(message), cause[0]] += 1
            headers = _headers(shard.agent.name, batch, record, cause)
            folded.unit.emit(dead_letters, record.key, record.value, headers=headers)
    folded.parked = frozenset(parked - shard.parked)
    for key in sorted(folded.parked):
        folded.unit.put(PARKED_ROWS, key, 1)
    return folded


def _fold_one(
    shard: Shard, unit: UnitOfWork, record: Record, message: Any, parked: set[bytes]
) -> tuple[str, str] | None:
    """Fold one record; where it cannot be, the kind of the cause and its words."""
    if isinstance(message, UndecodableMessage):
        return UNDECODABLE, str(message)
    if record.key is not None and record.key in parked:
        return PARKED, "an earlier record of this key is in the dead letters: redrive or discard the sequence"
    nested = unit.nested()
    try:
        shard.agent.fold(nested, record, message)
        _check_sizes(nested)
    except RetryablePipelineError:
        raise
    except Exception as error:
        log.exception("%s cannot handle %s", shard.agent.name, _name_of(message))
        if record.key is not None:
            parked.add(record.key)
        return RAISED, f"{type(error).__name__}: {error}"
    unit.absorb(nested)
    return None


def _check_sizes(unit: UnitOfWork) -> None:
    for key, row in unit.changes():
        check_size(key, row)
    for record in unit.emitted:
        check_size(record.key, record.value)


def _headers(agent: str, batch: Batch, record: Record, cause: tuple[str, str]) -> list[Header]:
    source, partition = batch.partition
    return [
        *record.headers,
        ("cause", cause[0].encode()),
        ("cause-detail", cause[1].encode()[:CAUSE_BYTES_MAX]),
        ("agent", agent.encode()),
        ("source-topic", source.encode()),
        ("source-partition", str(partition).encode()),
        ("source-offset", str(record.offset).encode()),
        ("source-timestamp-ms", str(record.timestamp).encode()),
    ]
