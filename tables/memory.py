"""A store in memory, for tests and simulations: it keeps the same contract as the RocksDB one, and forgets."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence

from app.kernel.errors import StoreClosed
from app.runtime.ports import Progress
from tables.opening import PROGRESS_KEY, StoreInUse


class MemoryStore:
    """See `ports.PartitionStore`."""

    def __init__(self) -> None:
        self._rows: dict[bytes, bytes] = {}
        self._progress: Progress | None = None
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
        for key, value in rows.items():
            if value is None:
                self._rows.pop(key, None)
            else:
                self._rows[key] = value
        self._progress = progress

    def wipe(self) -> None:
        """See `ports.PartitionStore`."""
        self._check()
        self._rows.clear()
        self._progress = None

    def close(self) -> None:
        """See `ports.PartitionStore`."""
        self.is_open = False

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

    def crash(self) -> None:
        """Let go of every store without closing it, as a killed process does."""
        for store in self._stores.values():
            store.is_open = False

    def lose(self) -> None:
        """Forget everything, as a lost disk does."""
        self._stores.clear()
