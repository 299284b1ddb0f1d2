"""How one client reaches the simulated cluster: what its requests meet on their way, and which leaders it asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

from app.runtime.ports import LogReader, TransactionalProducer
from app.runtime.simulated.producer import SimulatedProducer
from app.runtime.simulated.reader import SimulatedReader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.runtime.simulated.cluster import SimulatedCluster
    from app.runtime.simulated.log import PartitionLog

T = TypeVar("T")


class Link(Protocol):
    """One client's way to the cluster. The cluster itself is the way without obstacles."""

    async def perform(self, step: str, act: Callable[[], T]) -> T:
        """Carry a request to the cluster, do it there, and bring the answer back."""

    async def idle(self) -> None:
        """Let some time go by before it is asked again whether there is something new."""

    def settled_end(self, log: PartitionLog) -> int:
        """The end that the leader tells which this client asks: a deposed one knows nothing of what came later."""


class SimulatedClient:
    """`ports.Cluster` for one client: the cluster, reached over a link."""

    def __init__(self, cluster: SimulatedCluster, link: Link) -> None:
        self._cluster = cluster
        self._link = link

    def producer(self, transactional_id: str) -> TransactionalProducer:
        """A producer that fences every older one of its id as it starts."""
        return SimulatedProducer(self._cluster, transactional_id, self._link)

    def reader(self) -> LogReader:
        """A reader of settled records."""
        return SimulatedReader(self._cluster, self._link)

    async def topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        """The id of each topic. Missing topics are left out."""
        return await self._link.perform("topic_ids", lambda: self._cluster.ids_of(topics))
