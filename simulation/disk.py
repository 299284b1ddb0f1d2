"""A worker's disk as one process has it mounted: gone with the process, and watched as it is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from app.kernel.errors import StoreFailed
from app.runtime.ports import PartitionStore, Progress
from simulation.faults import Died
from tables.memory import MemoryStore

if TYPE_CHECKING:
    from simulation.process import Process


class Disk:
    """The worker's disk as one process has it mounted (`ports.StoreFactory`)."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def __call__(self, agent: str, partition: int) -> PartitionStore:
        """See `ports.StoreFactory`."""
        process = self._process
        if not process.alive:
            raise Died
        return cast(PartitionStore, Mounted(process, agent, partition, process.worker.stores(agent, partition)))

    def holds(self, agent: str, partition: int) -> bool:
        """See `ports.StoreFactory`."""
        return self._process.worker.stores.holds(agent, partition)

    def forget(self, agent: str) -> None:
        """See `ports.StoreFactory`."""
        self._process.worker.stores.forget(agent)


class Mounted:
    """A store as one process holds it (`ports.PartitionStore`): gone with the process, and watched as it is written."""

    def __init__(self, process: Process, agent: str, partition: int, store: MemoryStore) -> None:
        self._process = process
        self._agent = agent
        self._partition = partition
        self._store = store
        process.fleet.watch.opened(agent, partition, store)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._alive(), name)

    def write(self, rows: Mapping[bytes, bytes | None], progress: Progress) -> None:
        """See `ports.PartitionStore`."""
        store = self._alive()
        process = self._process
        if process.fleet.loop.time() < process.disk_full_until_s:
            raise StoreFailed("simulated: no space left on device")
        process.fleet.watch.writes(self._agent, self._partition, progress)
        store.write(rows, progress)

    def _alive(self) -> MemoryStore:
        if not self._process.alive:
            raise Died
        return self._store
