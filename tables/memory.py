"""A store in memory, for tests and simulations: it keeps the same contract as the RocksDB one, and forgets."""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from app.kernel.errors import StoreClosed
from app.runtime.ports import Progress
from tables.opening import PROGRESS_KEY, StoreInUse

UNFLUSHED_WRITES_MAX = 64
"""Older writes are on the disk: a memtable is flushed by and by."""

Undo = tuple[dict[bytes, bytes | None], Progress | None]
"""The rows as they were before one write, and the progress."""


class MemoryStore:
    """See `ports.PartitionStore`. Its last writes are in memory alone until it is closed, as RocksDB has them."""

    def __init__(self) -> None:
        self._rows: dict[bytes, bytes] = {}
        self._progress: Progress | None = None
        self._unflushed: deque[Undo] = deque(maxlen=UNFLUSHED_WRITES_MAX)
        self.is_open = False

    @property
    def progress(self) -> Progress | None:
        """See `ports.PartitionStore`."""
        return self._progress

    def get(self, key: bytes) -> bytes | None:
        """See `ports.PartitionStore`."""
        self._check()
        return self._rows.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `ports.PartitionStore`."""
        self._check()
        return [self._rows.get(key) for key in keys]

    def scan(
        self, prefix: bytes, after: bytes | None = None, limit: int = 1_000, *, backwards: bool = False
    ) -> list[tuple[bytes, bytes]]:
        """See `ports.PartitionStore`."""
        self._check()
        keys = sorted(key for key in self._rows if key.startswith(prefix))
        if backwards:
            keys = keys[: None if after is None else bisect.bisect_left(keys, after)][::-1]
        elif after is not None:
            keys = keys[bisect.bisect_right(keys, after) :]
        return [(key, self._rows[key]) for key in keys[:limit]]

    def write(self, rows: Mapping[bytes, bytes | None], progress: Progress) -> None:
        """See `ports.PartitionStore`."""
        self._check()
        if PROGRESS_KEY in rows:
            raise ValueError(f"the key {PROGRESS_KEY!r} is the store's own")
        self._unflushed.append(({key: self._rows.get(key) for key in rows}, self._progress))
        self._put(rows)
        self._progress = progress

    def wipe(self) -> None:
        """See `ports.PartitionStore`."""
        self._check()
        self._rows.clear()
        self._progress = None
        self._unflushed.clear()

    def close(self) -> None:
        """See `ports.PartitionStore`."""
        self.is_open = False
        self._unflushed.clear()

    def crash(self, losing: Callable[[int], int]) -> None:
        """End without closing. `losing` tells how many of the last unflushed writes, given their number, are lost."""
        for _ in range(losing(len(self._unflushed))):
            rows, self._progress = self._unflushed.pop()
            self._put(rows)
        self._unflushed.clear()
        self.is_open = False

    def rows(self) -> dict[bytes, bytes]:
        """Every row, open or not: for assertions."""
        return dict(self._rows)

    def _put(self, rows: Mapping[bytes, bytes | None]) -> None:
        for key, value in rows.items():
            if value is None:
                self._rows.pop(key, None)
            else:
                self._rows[key] = value

    def _check(self) -> None:
        if not self.is_open:
            raise StoreClosed("the store is closed")


class MemoryStores:
    """Opens stores in memory. A closed store opens again with what it held: the process lives on."""

    def __init__(self) -> None:
        self._stores: dict[tuple[str, int], MemoryStore] = {}

    def __call__(self, agent: str, partition: int) -> MemoryStore:
        """See `ports.StoreFactory`."""
        store = self._stores.setdefault((agent, partition), MemoryStore())
        if store.is_open:
            raise StoreInUse(f"{agent}/{partition} is open already: close it first")
        store.is_open = True
        return store

    def holds(self, agent: str, partition: int) -> bool:
        """See `ports.StoreFactory`."""
        return (agent, partition) in self._stores

    def forget(self, agent: str) -> None:
        """See `ports.StoreFactory`."""
        for key in [key for key, store in self._stores.items() if key[0] == agent and not store.is_open]:
            del self._stores[key]

    def crash(self, losing: Callable[[int], int] = lambda unflushed: 0) -> None:
        """Let go of every store without closing it, as a killed process does (see `MemoryStore.crash`)."""
        for store in self._stores.values():
            if store.is_open:
                store.crash(losing)

    def items(self) -> list[tuple[tuple[str, int], MemoryStore]]:
        """Every store there ever was, by agent and partition: for assertions."""
        return sorted(self._stores.items(), key=lambda item: item[0])

    def lose(self) -> None:
        """Forget everything, as a lost disk does."""
        self._stores.clear()
