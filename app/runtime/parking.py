"""What a shard knows of its own dead letters: which keys are parked, and whose turn it is when they are redriven.

It is in the shard's rows, and so in its changelog: nobody has to be trusted with it, not whoever redrives, not twice.
"""

from __future__ import annotations

import msgspec

from app.runtime.dead_letters import ALONE, PARKED, UNDECODABLE, Letter, Original, settlement
from app.runtime.ports import Record, TopicPartition
from app.runtime.shard import ALONE_PREFIX, PARKED_PREFIX, Shard
from app.runtime.table import Table
from app.runtime.unit import UnitOfWork

WAITS = "an earlier record of this key is in the dead letters: redrive or discard the sequence"


class Parked(msgspec.Struct, frozen=True):
    """A key's sequence: its name, the number of its first letter that is not settled, how often that one was tried,
    and the number of the letter that will come next."""

    sequence: str
    first: int = 1
    attempt: int = 1
    next: int = 1


PARKED_ROWS: Table[Parked | int] = Table.reserved(PARKED_PREFIX, Parked | int)
"""Key → its sequence. (Before there were numbers, a 1 said that the key was parked.)"""

ALONE_ROWS: Table[int] = Table.reserved(ALONE_PREFIX, int)
"""The name of a letter that lies alone → how often it was tried."""


class DeadLetters:
    """The dead letters of one shard during one round: what comes in, what is tried again, what is settled."""

    def __init__(self, shard: Shard, unit: UnitOfWork, topic: str) -> None:
        self.newly_parked: set[bytes] = set()
        self.unparked: set[bytes] = set()
        self._shard = shard
        self._unit = unit
        self._topic = topic

    def is_parked(self, key: bytes | None) -> bool:
        """Whether the key's records must wait behind others in the dead letters."""
        return key in self.newly_parked or (key in self._shard.parked and key not in self.unparked)

    def put_aside(self, record: Record, source: TopicPartition, cause: str, detail: str) -> None:
        """Take in a record that cannot be folded. But where it is no message, its key's later ones must wait for it."""
        name = f"{source.topic}@{record.offset}"
        number, key = ALONE, record.key
        if cause != UNDECODABLE and key is not None:
            name, number = self._append(key, name)
        elif self._shard.agent.logged:
            self._unit.put(ALONE_ROWS, name.encode(), 1)
        agent, at = self._shard.agent.name, (*source, record.offset, record.timestamp)
        self._write(record, Letter(cause, detail, agent, *at, name, number))

    def _append(self, key: bytes, name: str) -> tuple[str, int]:
        row = self._unit.get(PARKED_ROWS, key) if self.is_parked(key) else None
        if not isinstance(row, Parked):
            row = Parked(name)
            self.unparked.discard(key)
            self.newly_parked.add(key)
        self._unit.put(PARKED_ROWS, key, msgspec.structs.replace(row, next=row.next + 1))
        return row.sequence, row.next

    # Letters that come back

    def due(self, letter: Letter, key: bytes | None) -> bool:
        """Whether it is this letter's turn: it is not settled, this is its newest attempt, and none is before it."""
        if letter.number == ALONE:
            return self._unit.get(ALONE_ROWS, letter.sequence.encode()) == letter.attempt
        row = self._row(key)
        return row is not None and (row.sequence, row.first, row.attempt) == (
            letter.sequence,
            letter.number,
            letter.attempt,
        )

    def settle(self, letter: Letter, key: bytes | None, how: str) -> None:
        """The letter is done with; where it was the last one of its key, the key is no longer parked."""
        if letter.number == ALONE:
            self._unit.put(ALONE_ROWS, letter.sequence.encode(), None)
        elif (row := self._row(key)) is not None and key is not None:
            left = msgspec.structs.replace(row, first=row.first + 1, attempt=1)
            empty = left.first == left.next
            self._unit.put(PARKED_ROWS, key, None if empty else left)
            if empty:
                self.newly_parked.discard(key)
                self.unparked.add(key)
        self._unit.emit(self._topic, key, None, headers=settlement(letter, how))

    def failed_again(self, letter: Letter, record: Original, cause: str, detail: str) -> None:
        """Back to the dead letters. A letter that lay alone joins a sequence where others must now wait for it."""
        if letter.number == ALONE and cause != UNDECODABLE and record.key is not None:
            self.settle(letter, record.key, PARKED)
            self.put_aside(record, TopicPartition(record.topic, record.partition), cause, detail)
            return
        attempt = letter.attempt + 1
        if letter.number == ALONE:
            self._unit.put(ALONE_ROWS, letter.sequence.encode(), attempt)
        elif (row := self._row(record.key)) is not None and record.key is not None:
            self._unit.put(PARKED_ROWS, record.key, msgspec.structs.replace(row, attempt=attempt))
        self._write(record, letter._replace(cause=cause, detail=detail, attempt=attempt))

    def _row(self, key: bytes | None) -> Parked | None:
        row = self._unit.get(PARKED_ROWS, key) if key is not None and self.is_parked(key) else None
        return row if isinstance(row, Parked) else None

    def _write(self, record: Record, letter: Letter) -> None:
        headers = [*record.headers, *letter.headers()]
        self._unit.emit(self._topic, record.key, record.value, headers=headers)
