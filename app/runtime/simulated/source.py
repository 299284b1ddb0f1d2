"""What hands source batches to a pipeline, as the worker's consumer does: `ports.SourceControl`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from app.runtime.batch import Batch
from app.runtime.ports import TopicPartition

if TYPE_CHECKING:
    from app.runtime.simulated.cluster import SimulatedCluster
    from app.runtime.simulated.link import Link


class SimulatedSource:
    """A read_committed consumer over `partitions`. It fetches when told to, at most `batch_records_max` entries."""

    def __init__(
        self,
        cluster: SimulatedCluster,
        partitions: Iterable[TopicPartition],
        *,
        batch_records_max: int = 500,
        link: Link | None = None,
    ) -> None:
        self.positions = dict.fromkeys(partitions, 0)
        self.epochs = dict.fromkeys(self.positions, 0)
        self._cluster = cluster
        self._link = link or cluster
        self._batch_records_max = batch_records_max

    async def seek(self, partition: TopicPartition, offset: int) -> int:
        """Fetch from `offset` on; the seek epoch that batches fetched after it carry."""
        return await self._link.perform("seek", lambda: self._seek(partition, offset))

    def _seek(self, partition: TopicPartition, offset: int) -> int:
        self.positions[partition] = offset
        self.epochs[partition] += 1
        return self.epochs[partition]

    def jump(self, partition: TopicPartition, offset: int) -> None:
        """Go on elsewhere without a seek of the pipeline, as a consumer may after a rebalance."""
        self.positions[partition] = offset

    def fetch(self, partition: TopicPartition, records_max: int | None = None) -> Batch | None:
        """The next batch of a partition, or `None` where nothing new is settled."""
        log = self._cluster.log(partition)
        start = self.positions[partition]
        if not log.begin <= start <= log.end:
            start = log.begin  # as a consumer does that is told to begin at the earliest
        end = self._link.settled_end(log)
        if end <= start:
            return None
        records, end = log.settled(start, records_max or self._batch_records_max, end)
        self.positions[partition] = end
        return Batch(partition, records, self.epochs[partition], start, end)

    def fetch_all(self) -> list[Batch]:
        """The next batch of every partition that has one."""
        return [batch for partition in self.positions if (batch := self.fetch(partition)) is not None]

    @property
    def idle(self) -> bool:
        """Whether every settled record was fetched."""
        return all(self._link.settled_end(self._cluster.log(p)) <= position for p, position in self.positions.items())
