"""What lies in the dead letters: every letter that is not settled, by shard and key, as the topics tell it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from app.runtime.dead_letters import ALONE, PARKED, Letter, Original, read_letter, read_settlement
from app.runtime.ports import LogChunk, LogReader, Record, TopicPartition


class Pending(NamedTuple):
    """One letter that is not settled.

    `offset` is its newest record's in the dead-letter topic, `size` the bytes of its value, `since_ms` when it came
    there for the first time.
    """

    letter: Letter
    key: bytes | None
    offset: int
    size: int
    since_ms: int


class LetterSequence(NamedTuple):
    """Letters that belong together, in the order in which they must be folded: a key's, or one that lies alone."""

    agent: str
    partition: TopicPartition
    key: bytes | None
    letters: tuple[Pending, ...]

    @property
    def name(self) -> tuple[str, int, str]:
        """What stays the same while letters of it are settled, and others come."""
        first = self.letters[0].letter
        return self.agent, self.partition.partition, first.id if first.number == ALONE else first.sequence


@dataclass
class LetterBox:
    """Reads dead-letter topics, given by agent, and goes on where it stopped. It holds no values of records."""

    reader: LogReader
    partitions: Mapping[TopicPartition, str]
    unreadable: int = 0
    moved: dict[tuple[TopicPartition, str], Letter] = field(default_factory=dict)
    """Letters that lay alone and have joined their key's sequence."""

    _positions: dict[TopicPartition, int] = field(default_factory=dict)
    _pending: dict[TopicPartition, dict[str, Pending]] = field(default_factory=dict)

    async def read_on(self) -> None:
        """Read what is there by now."""
        bounds = await self.reader.bounds(list(self.partitions))
        starts = {at: self._positions.get(at, bounds[at].begin) for at in self.partitions}
        behind = {at: start for at, start in starts.items() if start < bounds[at].end}
        if not behind:
            return
        async for chunk in self.reader.read(behind, {at: bounds[at].end for at in behind}):
            self._take(chunk)

    def _take(self, chunk: LogChunk) -> None:
        pending = self._pending.setdefault(chunk.partition, {})
        for record in chunk.records:
            if (settled := read_settlement(record)) is not None:
                if (gone := pending.pop(settled[0], None)) is not None and settled[1] == PARKED:
                    self.moved[chunk.partition, gone.letter.id] = gone.letter
            elif (found := read_letter(record)) is not None:
                letter, _ = found
                before = pending.get(letter.id)
                since_ms = record.timestamp if before is None else before.since_ms
                pending[letter.id] = Pending(letter, record.key, record.offset, len(record.value or b""), since_ms)
            else:
                self.unreadable += 1
        self._positions[chunk.partition] = chunk.position

    def sequences(self, *, agent: str | None = None, key: bytes | None = None) -> list[LetterSequence]:
        """What is pending, by agent, partition and age; of one agent or of one key, where they are given."""
        found: list[LetterSequence] = []
        for at, pending in sorted(self._pending.items()):
            if agent not in (None, self.partitions[at]):
                continue
            by_name: dict[str, list[Pending]] = {}
            for one in pending.values():
                if key is None or one.key == key:
                    letter = one.letter
                    name = letter.id if letter.number == ALONE else letter.sequence
                    by_name.setdefault(name, []).append(one)
            for letters in by_name.values():
                ordered = tuple(sorted(letters, key=lambda one: one.letter.number))
                found.append(LetterSequence(self.partitions[at], at, ordered[0].key, ordered))
        return sorted(found, key=lambda one: (one.agent, one.letters[0].since_ms))

    def get(self, partition: TopicPartition, letter_id: str) -> Pending | None:
        """One letter, unless it is settled by now."""
        return self._pending.get(partition, {}).get(letter_id)

    async def originals(self, partition: TopicPartition, letters: Sequence[Pending]) -> dict[str, Original]:
        """The letters' records, as they were in their source, by id."""
        wanted = {one.offset for one in letters}
        if not wanted:
            return {}
        found: dict[str, Original] = {}
        async for chunk in self.reader.read({partition: min(wanted)}, {partition: max(wanted) + 1}):
            for letter, original in _letters(record for record in chunk.records if record.offset in wanted):
                found[letter.id] = original
        return found


def _letters(records: Iterable[Record]) -> Iterable[tuple[Letter, Original]]:
    return (found for record in records if (found := read_letter(record)) is not None)
