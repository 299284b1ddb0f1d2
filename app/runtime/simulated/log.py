"""The log of one partition: records, the marks that end transactions, and what read_committed makes of them."""

from __future__ import annotations

import enum
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple

from app.runtime.ports import Header


class SimulatedRecord(NamedTuple):
    """One record, with the fields of aiokafka's `ConsumerRecord` that the engine reads."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: tuple[Header, ...]


class Fate(enum.Enum):
    """What became of a transaction."""

    OPEN = "open"
    COMMITTED = "committed"
    ABORTED = "aborted"


@dataclass(eq=False)
class Transaction:
    """One transaction of one epoch of a transactional id. Its logs are in the order of their first records."""

    transactional_id: str
    fate: Fate = Fate.OPEN
    logs: list[PartitionLog] = field(default_factory=list)
    claim: int = 0
    """Which start of a producer it belongs to, counted over the whole cluster: later starts have greater numbers."""
    begun_s: float = 0.0


@dataclass(slots=True)
class _Entry:
    """A record, or where there is none a transaction's mark."""

    offset: int
    record: SimulatedRecord | None
    transaction: Transaction | None


Content = tuple[bytes | None, bytes | None, tuple[Header, ...]]
"""Key, value, headers."""


class PartitionLog:
    """Offsets only grow; `begin` is the first that is kept, `end` the next one."""

    def __init__(self, topic: str, partition: int, record_bytes_max: int) -> None:
        self.topic = topic
        self.partition = partition
        self.record_bytes_max = record_bytes_max
        self.begin = 0
        self.end = 0
        self._entries: list[_Entry] = []
        self._open: dict[Transaction, int] = {}
        self._written: list[_Entry] = []

    @property
    def settled_end(self) -> int:
        """The last stable offset: the first record of the oldest open transaction, or else the end."""
        return min(self._open.values(), default=self.end)

    def append(self, contents: Sequence[Content], timestamp: int, transaction: Transaction | None = None) -> int:
        """Add records; the first one's offset."""
        base = self.end
        if transaction is not None and self not in transaction.logs:
            transaction.logs.append(self)
            self._open[transaction] = base
        for key, value, headers in contents:
            record = SimulatedRecord(self.topic, self.partition, self.end, key, value, timestamp, headers)
            entry = _Entry(self.end, record, transaction)
            self._entries.append(entry)
            self._written.append(entry)
            self.end += 1
        return base

    def mark(self, transaction: Transaction) -> None:
        """Write the mark that ends a transaction."""
        del self._open[transaction]
        self._entries.append(_Entry(self.end, None, None))
        self.end += 1

    def settled(self, start: int, entries_max: int, end: int | None = None) -> tuple[list[SimulatedRecord], int]:
        """Committed records from `start` on, and the position after them, from at most `entries_max` entries.

        `end` is the settled end as the reader knows it, where that is not the newest.
        """
        end = self.settled_end if end is None else min(end, self.settled_end)
        first = bisect_left(self._entries, start, key=attrgetter("offset"))
        entries = [entry for entry in self._entries[first : first + entries_max] if entry.offset < end]
        records = [entry.record for entry in entries if entry.record is not None and not _aborted(entry)]
        complete = len(entries) < entries_max
        return records, max(end if complete else entries[-1].offset + 1, start)

    def decided(self) -> list[tuple[SimulatedRecord, Transaction | None]]:
        """Every record whose transaction was committed, its mark written or not, and whatever was deleted since."""
        return [
            (entry.record, entry.transaction)
            for entry in self._written
            if entry.record is not None and (entry.transaction is None or entry.transaction.fate is Fate.COMMITTED)
        ]

    @property
    def last_settled(self) -> int:
        """The offset of the last committed record that readers see, or -1."""
        end = self.settled_end
        return next((e.offset for e in reversed(self._entries) if e.offset < end and e.record and not _aborted(e)), -1)

    def undecided_before(self, offset: int) -> bool:
        """Whether a transaction that is neither committed nor aborted has a record before `offset`."""
        return any(first < offset and t.fate is Fate.OPEN for t, first in self._open.items())

    def compact(self, *, drop_tombstones: bool = False, before_ms: int | None = None) -> None:
        """Keep the newest settled record of every key. Offsets stay as they are: the log gets holes.

        Tombstones go with `drop_tombstones`, or where they were written `before_ms`.
        """
        end = self.settled_end
        newest = {
            entry.record.key: entry.offset
            for entry in self._entries
            if entry.record is not None and entry.offset < end and not _aborted(entry)
        }
        self._entries = [
            entry
            for entry in self._entries
            if entry.offset >= end or entry.record is None or _kept(entry, newest, drop_tombstones, before_ms)
        ]

    def delete_before(self, offset: int) -> None:
        """Drop the oldest records, as retention does."""
        self.begin = min(max(self.begin, offset), self.settled_end)
        self._entries = [entry for entry in self._entries if entry.offset >= self.begin]


def _aborted(entry: _Entry) -> bool:
    return entry.transaction is not None and entry.transaction.fate is Fate.ABORTED


def _kept(entry: _Entry, newest: dict[bytes | None, int], drop_tombstones: bool, before_ms: int | None) -> bool:
    record = entry.record
    if record is None or newest.get(record.key) != entry.offset:
        return False
    if record.value is not None:
        return True
    return not drop_tombstones and (before_ms is None or record.timestamp >= before_ms)
