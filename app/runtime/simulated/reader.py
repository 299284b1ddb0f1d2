"""A reader of settled records of the simulated cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING

from app.kernel.errors import RetryablePipelineError
from app.runtime.ports import LogBounds, LogChunk, TopicPartition

if TYPE_CHECKING:
    from app.runtime.simulated.cluster import SimulatedCluster
    from app.runtime.simulated.link import Link

IDLE_POLLS_MAX = 1_000
"""Simulated readers have no deadline: they give up after as many polls that brought nothing."""


class SimulatedReader:
    """Implements `ports.LogReader`."""

    def __init__(self, cluster: SimulatedCluster, link: Link | None = None) -> None:
        self._cluster = cluster
        self._link = link or cluster

    async def __aenter__(self) -> SimulatedReader:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    async def bounds(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, LogBounds]:
        """The first offset and the settled end of each partition."""
        return await self._link.perform("bounds", lambda: {p: self._bounds(p) for p in partitions})

    def _bounds(self, partition: TopicPartition) -> LogBounds:
        log = self._cluster.log(partition)
        return LogBounds(log.begin, self._link.settled_end(log))

    async def read(
        self, positions: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
    ) -> AsyncIterator[LogChunk]:
        """Chunks until every partition is at its end, taking turns."""
        left = {partition: start for partition, start in positions.items() if start < ends[partition]}
        idle_polls = 0
        while left:
            idle_polls += 1
            for partition, start in list(left.items()):
                chunk = await self._link.perform("read", partial(self._chunk, partition, start))
                if chunk.position == start:
                    continue
                idle_polls = 0
                left[partition] = chunk.position
                if chunk.position >= ends[partition]:
                    del left[partition]
                yield chunk
            if idle_polls > IDLE_POLLS_MAX:
                raise RetryablePipelineError(f"no record of {', '.join(map(str, left))} came")

    async def follow(self, positions: Mapping[TopicPartition, int]) -> AsyncIterator[LogChunk]:
        """Chunks as they come, taking turns."""
        at = dict(positions)
        while at:
            news = await self._link.perform("read", lambda: [self._chunk(p, start) for p, start in at.items()])
            news = [chunk for chunk in news if chunk.position != chunk.start]
            for chunk in news:
                at[chunk.partition] = chunk.position
                yield chunk
            if not news:
                await self._link.idle()

    def _chunk(self, partition: TopicPartition, start: int) -> LogChunk:
        log = self._cluster.log(partition)
        if not log.begin <= start <= log.end:
            raise RetryablePipelineError(f"the log of {partition} no longer has the offset {start}")
        end = self._link.settled_end(log)
        if start >= end:
            return LogChunk(partition, start, (), start)
        records, position = log.settled(start, self._cluster.chunk_records_max, end)
        return LogChunk(partition, start, records, position)
