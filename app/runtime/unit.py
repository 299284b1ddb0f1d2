"""The unit of work: what a fold sees of its partition, and all that it wants changed, before anything is written."""

from __future__ import annotations

import bisect
import heapq
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from app.runtime.ports import Header, PartitionStore
from app.runtime.table import Table

R = TypeVar("R")

SCAN_ROWS = 200


class Emitted(NamedTuple):
    """One derived record on its way to a topic."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[Header]


class UnitOfWork:
    """An overlay over one agent's rows of one partition, and an outbox.

    Rows that were put are seen by later reads of the same unit, and by nobody else: readers of the tables see them when
    the round's transaction is committed.
    """

    __slots__ = ("_ahead", "_dirty", "_order", "_rows", "_store", "counts", "emitted", "partition")

    def __init__(self, partition: int, store: PartitionStore) -> None:
        self.partition = partition
        self.emitted: list[Emitted] = []
        self.counts: dict[str, int] = {}
        self._store = store
        self._ahead: dict[bytes, bytes | None] = {}
        self._rows: dict[bytes, Any] = {}
        self._dirty: dict[bytes, Table[Any]] = {}
        self._order: dict[bytes, list[bytes]] = {}

    def fetch_ahead(self, keys: Iterable[bytes]) -> None:
        """Read the rows of many keys (whole keys, with the table's prefix) at once."""
        wanted = list(dict.fromkeys(keys))
        self._ahead.update(zip(wanted, self._store.get_many(wanted), strict=True))

    def get(self, table: Table[R], key: bytes) -> R | None:
        """The row, with this unit's changes, or `None`."""
        full = table.prefix + key
        try:
            row: R | None = self._rows[full]
        except KeyError:
            raw = self._ahead[full] if full in self._ahead else self._store.get(full)
            row = self._rows[full] = None if raw is None else table.decode(raw)
        return row

    def put(self, table: Table[R], key: bytes, row: R | None) -> None:
        """Put the row; `None` deletes it."""
        self._change(table.prefix + key, table, row)

    def _change(self, full: bytes, table: Table[Any], row: Any) -> None:
        if self._order and full not in self._dirty and (order := self._order.get(table.prefix)) is not None:
            bisect.insort(order, full)
        self._rows[full] = row
        self._dirty[full] = table

    def scan(self, table: Table[R], after: bytes | None, limit: int) -> list[tuple[bytes, R]]:
        """Up to `limit` rows in key order, with this unit's changes; keys greater than `after`, without the prefix."""
        start = None if after is None else table.prefix + after
        found = itertools.islice(self._merged(table.prefix, start), limit)
        return [
            (full[len(table.prefix) :], self._rows[full] if full in self._dirty else table.decode(raw))
            for full, raw in found
        ]

    def _merged(self, prefix: bytes, start: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """Whole keys in order; for those of the store the raw row too."""
        order = self._order.get(prefix)
        if order is None:
            order = self._order[prefix] = sorted(full for full in self._dirty if full.startswith(prefix))
        changed = itertools.islice(order, 0 if start is None else bisect.bisect_right(order, start), None)
        mine = ((full, b"") for full in changed if self._rows[full] is not None)
        return heapq.merge(mine, self._unchanged(prefix, start))

    def _unchanged(self, prefix: bytes, start: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        while page := self._store.scan(prefix, start, SCAN_ROWS):
            yield from (row for row in page if row[0] not in self._dirty)
            if len(page) < SCAN_ROWS:
                return
            start = page[-1][0]

    def scan_committed(self, table: Table[R], after: bytes | None, limit: int) -> list[tuple[bytes, R]]:
        """Up to `limit` rows in key order as they were before this unit, keys without the table's prefix."""
        start = None if after is None else table.prefix + after
        found = self._store.scan(table.prefix, start, limit)
        return [(key[len(table.prefix) :], table.decode(raw)) for key, raw in found]

    def emit(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        partition: int | None = None,
        headers: Sequence[Header] = (),
    ) -> None:
        """Derive a record. It keeps this partition's number where no other is given."""
        self.emitted.append(Emitted(topic, self.partition if partition is None else partition, key, value, headers))

    def count(self, name: str, n: int = 1) -> None:
        """Count something worth a metric, `eventfleet_<name>_total`: it counts only when the round is committed."""
        self.counts[name] = self.counts.get(name, 0) + n

    def changes(self) -> Iterator[tuple[bytes, bytes | None]]:
        """The changed rows, encoded, under their whole keys."""
        rows = self._rows
        for full, table in self._dirty.items():
            row = rows[full]
            yield full, None if row is None else table.encode(row)

    def nested(self) -> UnitOfWork:
        """A unit on top of this one, for a single record: `absorb` it, or drop it and nothing of it remains."""
        return UnitOfWork(self.partition, _Beneath(self))

    def absorb(self, nested: UnitOfWork) -> None:
        """Take over the changes of a unit that was made by `nested`."""
        for full, table in nested._dirty.items():
            self._change(full, table, nested._rows[full])
        self.emitted += nested.emitted
        for name, n in nested.counts.items():
            self.count(name, n)


class _Beneath:
    """A unit of work as the store of the unit nested in it. It is only read."""

    def __init__(self, unit: UnitOfWork) -> None:
        self._unit = unit

    progress = None

    def get(self, key: bytes) -> bytes | None:
        unit = self._unit
        if key in unit._dirty:
            row = unit._rows[key]
            return None if row is None else unit._dirty[key].encode(row)
        return unit._ahead[key] if key in unit._ahead else unit._store.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self.get(key) for key in keys]

    def scan(
        self, prefix: bytes, after: bytes | None = None, limit: int = 1_000, *, backwards: bool = False
    ) -> list[tuple[bytes, bytes]]:
        if backwards:  # only views scan backwards
            return self._unit._store.scan(prefix, after, limit, backwards=True)
        found = itertools.islice(self._unit._merged(prefix, after), limit)
        return [(key, raw or self._changed(key)) for key, raw in found]

    def _changed(self, key: bytes) -> bytes:
        return self._unit._dirty[key].encode(self._unit._rows[key])

    def write(self, rows: object, progress: object) -> None:
        raise NotImplementedError("a nested unit is absorbed, not written")

    def wipe(self) -> None:
        raise NotImplementedError("a nested unit is dropped, not wiped")

    def close(self) -> None:
        raise NotImplementedError("a nested unit holds no files")
