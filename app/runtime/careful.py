"""Folding record by record: what cannot be folded is put aside, what was put aside comes back, and the rest goes on.

The culprit goes to the dead letters with its cause, whole, and with it the key's later records, in order.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, assert_never

from app.kernel.errors import RetryablePipelineError, UndecodableMessage
from app.runtime.batch import decode_all
from app.runtime.dead_letters import ALONE, DISCARDED, PARKED, RAISED, REDRIVEN, UNDECODABLE, Instruction, Kind
from app.runtime.folded import Folded, Piece, comes_back, name_of, new_records, new_unit
from app.runtime.outbox import check_size
from app.runtime.parking import WAITS, DeadLetters
from app.runtime.ports import Record, TopicPartition
from app.runtime.shard import Shard
from app.runtime.unit import UnitOfWork

log = logging.getLogger(__name__)

EVENTS_FILLED, FILLS_FAILED = "events_filled", "fills_failed"

Failure = tuple[str, str]
"""The kind of a cause, and its words."""


class CarefulFold:
    """One shard's round, record by record. One use."""

    def __init__(self, shard: Shard, pieces: Sequence[Piece], dead_letters: str) -> None:
        self._shard = shard
        self._pieces = pieces
        live = [new_records(shard, piece) for piece in pieces if not comes_back(shard, piece)]
        self._folded = Folded(new_unit(shard, live))
        self._letters = DeadLetters(shard, self._folded.unit, dead_letters)

    def fold(self) -> Folded:
        """Fold all pieces, in order."""
        for piece in self._pieces:
            if comes_back(self._shard, piece):
                for told in instructions_for(self._shard, piece):
                    self._follow(told)
            else:
                for record, message in zip(*new_records(self._shard, piece), strict=True):
                    self._take(piece[0].partition, record, message)
        self._folded.parked = frozenset(self._letters.newly_parked)
        self._folded.unparked = frozenset(self._letters.unparked)
        return self._folded

    def _take(self, source: TopicPartition, record: Record, message: Any) -> None:
        """A record from an ordinary source."""
        failure = self._fold_in_turn(record, message)
        self._count(message, "processed" if failure is None else failure[0])
        if failure is not None:
            self._letters.put_aside(record, source, *failure)

    def _follow(self, told: Instruction) -> None:
        """A record from the redrive topic."""
        letter, key = told.letter, told.record.key
        match told.kind:
            case Kind.FILL:
                self._fill(told)
            case Kind.FOLD if self._letters.due(letter, key):
                self._redrive(told)
            case Kind.DISCARD if self._letters.due(letter, key):
                self._letters.settle(letter, key, DISCARDED)
            case Kind.FOLD | Kind.DISCARD:
                log.info("%s/%s: it is not the turn of %s", self._shard.agent.name, self._shard.partition, letter.id)
            case _:
                assert_never(told.kind)

    def _redrive(self, told: Instruction) -> None:
        letter, record = told.letter, told.record
        message = self._decoded(record)
        # A letter of a sequence is the first of its key, so it need not wait; one that lay alone may have to.
        failure = (self._fold_in_turn if letter.number == ALONE else self._fold)(record, message)
        self._count(message, REDRIVEN if failure is None else failure[0])
        if failure is None:
            self._letters.settle(letter, record.key, REDRIVEN)
        else:
            self._letters.failed_again(letter, record, *failure)

    def _fill(self, told: Instruction) -> None:
        """Fold a record from the event store that the source lacks. It stays there: where it fails, nothing is lost."""
        failure = self._fold_in_turn(told.record, self._decoded(told.record))
        self._folded.unit.count(EVENTS_FILLED if failure is None else FILLS_FAILED)
        if failure is not None:
            log.warning("%s cannot fill a gap with %s: %s", self._shard.agent.name, told.letter.sequence, failure[1])

    def _fold_in_turn(self, record: Record, message: Any) -> Failure | None:
        """Fold a record that must not overtake those of its key that are parked; where it cannot be, why."""
        if not isinstance(message, UndecodableMessage) and self._letters.is_parked(record.key):
            return PARKED, WAITS
        return self._fold(record, message)

    def _fold(self, record: Record, message: Any) -> Failure | None:
        fold = self._shard.agent.fold
        if isinstance(message, UndecodableMessage):
            if self._shard.agent.undecodable is None:
                return UNDECODABLE, str(message)
            fold = self._shard.agent.undecodable
        nested = self._folded.unit.nested()
        try:
            fold(nested, record, message)
            _check_sizes(nested, rows=self._shard.agent.logged)
        except RetryablePipelineError:
            raise
        except Exception as error:
            log.exception("%s cannot handle %s", self._shard.agent.name, name_of(message))
            return RAISED, f"{type(error).__name__}: {error}"
        self._folded.unit.absorb(nested)
        return None

    def _decoded(self, record: Record) -> Any:
        agent = self._shard.agent
        if record.topic not in agent.sources:
            return UndecodableMessage(f"{agent.name} reads {record.topic} no longer")
        return decode_all([record], agent.decode_of(record.topic))[0]

    def _count(self, message: Any, status: str) -> None:
        self._folded.records += 1
        self._folded.events[name_of(message), status] += 1


def instructions_for(shard: Shard, piece: Piece) -> list[Instruction]:
    """Those of a piece of the redrive topic that are for this shard."""
    _, messages = new_records(shard, piece)
    name = shard.agent.name
    return [one for one in messages if isinstance(one, Instruction) and one.letter.agent == name]


def _check_sizes(unit: UnitOfWork, *, rows: bool) -> None:
    for key, row in unit.changes() if rows else ():
        check_size(key, row)
    for record in unit.emitted:
        check_size(record.key, record.value)
