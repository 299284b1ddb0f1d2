"""A reader of settled records of the simulated cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING

from app.kernel.errors import RetryablePipelineError
from app.runtime.ports import LogBounds, LogChunk, TopicPartition

if TYPE_CHECKING:
    from app.runtime.simulated.cluster import SimulatedCluster

IDLE_POLLS_MAX = 1_000
"""Simulated readers have no deadline: they give up after as many polls that brought nothing."""


class SimulatedReader:
    """Implements `ports.LogReader`."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster

    async def __aenter__(self) -> SimulatedReader:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    async def bounds(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, LogBounds]:
        """The first offset and the settled end of each partition."""
        return await self._cluster.perform("bounds", lambda: {p: self._bounds(p) for p in partitions})

    def _bounds(self, partition: TopicPartition) -> LogBounds:
        log = self._cluster.log(partition)
        return LogBounds(log.begin, log.settled_end)

    async def read(
        self, positions: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
    ) -> AsyncIterator[LogChunk]:
        """Chunks until every partition is at its end, taking turns."""
        left = {partition: start for partition, start in positions.items() if start < ends[partition]}
        idle_polls = 0
        while left:
            idle_polls += 1
            for partition, start in list(left.items()):
                chunk = await self._cluster.perform("read", partial(self._chunk, partition, start))
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
            for partition, start in at.items():
                chunk = await self._cluster.perform("read", partial(self._chunk, partition, start))
                if chunk.position != start:
                    at[partition] = chunk.position
                    yield chunk
            await asyncio.sleep(0)

    def _chunk(self, partition: TopicPartition, start: int) -> LogChunk:
        log = self._cluster.log(partition)
        if not log.begin <= start <= log.end:
            raise RetryablePipelineError(f"the log of {partition} no longer has the offset {start}")
        records, position = log.settled(start, self._cluster.chunk_records_max)
        return LogChunk(partition, start, records, position)
