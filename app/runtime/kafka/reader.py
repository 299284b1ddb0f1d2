"""A group-less reader of settled records on aiokafka: `ports.LogReader`."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import OffsetOutOfRangeError
from aiokafka.structs import TopicPartition as KafkaTopicPartition

from app.kernel.errors import IllegalTransition, RetryablePipelineError
from app.runtime.kafka.connection import Connection, deadline
from app.runtime.ports import LogBounds, LogChunk, TopicPartition

FETCH_BYTES_MAX = 32 << 20
FETCH_PARTITION_BYTES_MAX = 4 << 20
POLL_MS = 50
"""A fetch that brought nothing but control records wakes nobody: the position is looked at this often."""

FOLLOW_MS = 250
FOLLOW_ENOUGH_BYTES = 256 << 10
"""A follower asks four times a second, or when so much has come."""


class KafkaReader:
    """Reads several partitions with one consumer. Use it as a context: it connects on entering."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._consumer: Any = None

    async def __aenter__(self) -> KafkaReader:
        self._consumer = AIOKafkaConsumer(
            group_id=None,
            isolation_level="read_committed",
            auto_offset_reset="none",
            enable_auto_commit=False,
            fetch_max_bytes=FETCH_BYTES_MAX,
            max_partition_fetch_bytes=FETCH_PARTITION_BYTES_MAX,
            **self._connection.client_options,
        )
        try:
            async with deadline(self._connection.start_timeout_s, "the start of a reader"):
                await self._consumer.start()
        except BaseException:
            await asyncio.shield(self._close())
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.shield(self._close())

    async def _close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is None:
            return
        # In a task of its own: aiokafka awaits tasks that it has cancelled, and so can end as if we were cancelled.
        stop = asyncio.create_task(consumer.stop())
        await asyncio.wait({stop}, timeout=self._connection.close_timeout_s)
        if not stop.done() or stop.cancelled() or stop.exception() is not None:
            stop.cancel()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._connection.close_timeout_s):
                    await consumer._client.close()

    async def bounds(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, LogBounds]:
        """The first offset and the settled end of each partition, as their leaders see them now."""
        if not partitions:
            return {}
        consumer = self._entered()
        wanted = {_kafka(partition): partition for partition in partitions}
        async with deadline(self._connection.stall_timeout_s, "asking for the ends of partitions"):
            # All topics at once: otherwise aiokafka learns of them one by one, with a pause after each.
            await consumer._client.set_topics({partition.topic for partition in partitions})
            begins, ends = await asyncio.gather(consumer.beginning_offsets(wanted), consumer.end_offsets(wanted))
        return {partition: LogBounds(begins[kafka], ends[kafka]) for kafka, partition in wanted.items()}

    async def read(
        self, positions: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
    ) -> AsyncIterator[LogChunk]:
        """Chunks until every partition is at its end, records beyond it included where the fetch brought them."""
        left = {_kafka(p): (p, start) for p, start in positions.items() if start < ends[p]}
        if not left:
            return
        consumer = self._entered()
        consumer.assign(list(left))
        for kafka, (_, start) in left.items():
            consumer.seek(kafka, start)
        progress_s = time.monotonic()
        while left:
            fetched = await self._fetch(consumer)
            for kafka, (partition, start) in list(left.items()):
                position = await consumer.position(kafka)
                if position == start:
                    continue
                progress_s = time.monotonic()
                left[kafka] = partition, position
                if position >= ends[partition]:
                    del left[kafka]
                    consumer.pause(kafka)
                yield LogChunk(partition, start, fetched.get(kafka, ()), position)
            self._check_progress(progress_s, [partition for partition, _ in left.values()])

    async def follow(self, positions: Mapping[TopicPartition, int]) -> AsyncIterator[LogChunk]:
        """Chunks as they come. The broker holds each fetch for a moment: followers are many, and in no hurry."""
        consumer = self._entered()
        at = {_kafka(partition): (partition, start) for partition, start in positions.items()}
        fetcher = consumer._fetcher
        fetcher._fetch_min_bytes, fetcher._fetch_max_wait_ms = FOLLOW_ENOUGH_BYTES, FOLLOW_MS
        consumer.assign(list(at))
        for kafka, (_, start) in at.items():
            consumer.seek(kafka, start)
        while at:
            fetched = await self._fetch(consumer, FOLLOW_MS)
            for kafka, (partition, start) in at.items():
                position = await consumer.position(kafka)
                if position != start:
                    at[kafka] = partition, position
                    yield LogChunk(partition, start, fetched.get(kafka, ()), position)

    async def _fetch(self, consumer: Any, timeout_ms: int = POLL_MS) -> dict[Any, Any]:
        try:
            fetched: dict[Any, Any] = await consumer.getmany(timeout_ms=timeout_ms)
        except OffsetOutOfRangeError as error:
            raise RetryablePipelineError(f"a log no longer has the offsets that were asked for: {error}") from error
        return fetched

    def _check_progress(self, progress_s: float, left: Sequence[TopicPartition]) -> None:
        limit_s = self._connection.stall_timeout_s
        if left and time.monotonic() - progress_s > limit_s:
            names = ", ".join(f"{topic}/{number}" for topic, number in left)
            raise RetryablePipelineError(f"no record of {names} came within {limit_s:g} s")

    def _entered(self) -> Any:
        if self._consumer is None:
            raise IllegalTransition("a reader is used inside `async with`")
        return self._consumer


def _kafka(partition: TopicPartition) -> KafkaTopicPartition:
    # aiokafka tells partitions apart by its own type.
    return KafkaTopicPartition(partition.topic, partition.partition)
