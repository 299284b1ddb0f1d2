"""A Faust transport whose consumer yields one message per partition and fetch: the whole list of records, as a `Batch`.

Faust keeps its threads, its rebalance callbacks and its flow control. What changes is the unit of everything that Faust
does per message, and that nothing is acknowledged or committed here: positions are the pipeline's.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import Any, NamedTuple, cast

import faust
from aiokafka.structs import TopicPartition as KafkaTopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from app.runtime.batch import Batch
from app.runtime.faust_shell.pacing import Pacing
from app.runtime.ports import TopicPartition

log = logging.getLogger(__name__)

IDLE_POLL_S = 1.0
STOP_PART_TIMEOUT_S = 2.0
FETCH_WAIT_MS = 100
"""How long the broker may hold an empty fetch. Faust hard-codes 1,500, which a rebalance then has to wait for."""


class Reach(NamedTuple):
    """Of one partition: its end, the consumer's position, the end of the last batch that was handed over, and when a
    broker last answered a fetch of it, in ms since the epoch."""

    end: int
    position: int
    delivered: int
    answered_ms: int

    def lag(self, folded: int) -> int:
        """Records that wait, where everything before `folded` is folded. Control records behind it do not count."""
        return max(0, self.end - (self.position if folded >= self.delivered else folded))


class BatchConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread in which aiokafka's consumer lives. All state here is touched in that thread alone.

    `_chain` holds, per partition, the position behind the last batch: the start of the next. `_left` is the position as
    the last fetch left it: where the consumer's position is another now, somebody has sought.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self._epochs: dict[TP, int] = defaultdict(int)
        self._chain: dict[Any, int] = {}
        self._left: dict[Any, int] = {}
        self._assignment_seen: Any = None
        app: Any = self.consumer.app
        settings = app.fleet_settings
        self._pacing = Pacing(settings.pace_ms, settings.pace_records_per_s_min, idle_wait_ms=FETCH_WAIT_MS)

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer: Any = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"  # Faust: only with its own exactly_once
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        seek = consumer.seek

        def seek_and_remember(partition: Any, offset: int) -> None:
            seek(partition, offset)
            self._chain[partition] = self._left[partition] = offset

        consumer.seek = seek_and_remember
        return consumer

    async def on_thread_stop(self) -> None:
        """Stop aiokafka's consumer, part by part, each with a deadline.

        Faust waits for all of it without one, and in an outage aiokafka's fetcher ends with a cancellation of its own
        making: it would take this thread with it, and the worker would wait for ever.
        """
        consumer: Any = self._consumer
        self._consumer = None
        await super().on_thread_stop()
        if consumer is not None:
            consumer._closed = True
            parts = (consumer._coordinator, consumer._fetcher, consumer._client)
            for part in parts:
                if part is not None:
                    await _finish(part.close(), STOP_PART_TIMEOUT_S)

    async def _fetch_records(
        self, consumer: Any, active_partitions: Any, timeout: float | None = None, max_records: int | None = None
    ) -> dict[Any, Batch]:
        before = _assignment_of(consumer)
        self._note_foreign_seeks(before)
        # partitions=None takes everything: records left inside aiokafka hold back the fetches of all partitions of that
        # broker for 100 ms. Partitions whose buffer is full are paused instead.
        everything: Any = None
        fetched = await super()._fetch_records(consumer, everything, timeout=timeout, max_records=max_records)
        if fetched:
            self._pacing.fetched(consumer._fetcher, sum(map(len, fetched.values())), self.thread_loop)
        after = _assignment_of(consumer)
        if after is None or after is not before:
            self._rewind(consumer, after, fetched)
            return {}
        batches = {partition: self._batch(after, partition, records) for partition, records in fetched.items()}
        for partition in after.tps:
            position = after.state_value(partition)._position
            if position is not None:
                self._left[partition] = position
        return batches

    def _rewind(self, consumer: Any, assignment: Any, fetched: Mapping[Any, list[Any]]) -> None:
        """A rebalance came during the fetch: the positions before and after it cannot be compared.

        The records may have come before a pipeline's seek, or after it: then nobody would ask for them again. So they
        are fetched once more; a pipeline that is further already trims them, one that is not sees the gap.
        """
        for partition, records in fetched.items():
            if assignment is not None and records and partition in assignment.tps:
                consumer.seek(KafkaTopicPartition(partition.topic, partition.partition), records[0].offset)

    def _note_foreign_seeks(self, assignment: Any) -> None:
        if assignment is not self._assignment_seen:
            self._assignment_seen = assignment
            self._chain.clear()
            self._left.clear()
        for partition in assignment.tps if assignment else ():
            position = assignment.state_value(partition)._position
            if position is not None and position != self._left.get(partition):
                self._chain[partition] = self._left[partition] = position

    def _batch(self, assignment: Any, partition: Any, records: list[Any]) -> Batch:
        end = assignment.state_value(partition)._position
        start = self._chain.get(partition, records[0].offset)
        self._chain[partition] = end
        return Batch(TopicPartition(*partition), records, self._epochs[TP(*partition)], start, end)

    def hold(self, partition: TP, on: bool) -> None:
        """Pause or resume one partition. Call it in the thread."""
        consumer, wanted = self._consumer, KafkaTopicPartition(partition.topic, partition.partition)
        if consumer is not None and wanted in consumer.assignment():
            (consumer.pause if on else consumer.resume)(wanted)

    async def seek_epoch(self, partition: TopicPartition, offset: int) -> int:
        """Seek, and begin a new epoch: batches of older ones were fetched before it."""
        epoch: int = await self.call_thread(self._seek_epoch, TP(*partition), offset)
        return epoch

    async def _seek_epoch(self, partition: TP, offset: int) -> int:
        self._epochs[partition] += 1
        consumer = self._ensure_consumer()
        wanted = KafkaTopicPartition(partition.topic, partition.partition)
        consumer.seek(wanted, offset)
        consumer.resume(wanted)
        return self._epochs[partition]

    async def group_offset(self, partition: TopicPartition) -> int | None:
        """The group's committed offset."""
        offset: int | None = await self.call_thread(self._ensure_consumer().committed, KafkaTopicPartition(*partition))
        return offset

    async def commit_for_lag_tools(self, positions: Mapping[TopicPartition, int]) -> None:
        """Commit positions to the group: nothing of ours reads them back but the check against lost changelogs."""
        await self.call_thread(
            self._ensure_consumer().commit, {KafkaTopicPartition(*p): offset for p, offset in positions.items()}
        )

    async def reaches(self) -> dict[TopicPartition, Reach]:
        """How far each assigned partition goes and was read, as the last fetch told it."""
        found: dict[TopicPartition, Reach] = await self.call_thread(self._reaches)
        return found

    async def _reaches(self) -> dict[TopicPartition, Reach]:
        assignment = _assignment_of(self._ensure_consumer())
        found: dict[TopicPartition, Reach] = {}
        for partition in assignment.tps if assignment else ():
            state = assignment.state_value(partition)
            if state.highwater is not None and state._position is not None:
                delivered = self._chain.get(partition, state._position)
                found[TopicPartition(*partition)] = Reach(
                    state.highwater, state._position, delivered, state.timestamp or 0
                )
        return found


async def _finish(work: Coroutine[Any, Any, None], timeout_s: float) -> None:
    task = asyncio.create_task(work)
    _, late = await asyncio.wait({task}, timeout=timeout_s)
    if late:
        task.cancel()
        await asyncio.wait({task}, timeout=timeout_s)
    elif not task.cancelled() and task.exception() is not None:
        log.info("stopping the consumer: %r", task.exception())


def _assignment_of(consumer: Any) -> Any:
    subscription = consumer._subscription.subscription
    return subscription.assignment if subscription else None


class BatchConsumer(driver.Consumer):
    """Faust's consumer over `BatchConsumerThread`."""

    _thread: BatchConsumerThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._room = asyncio.Event()

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    @property
    def thread(self) -> BatchConsumerThread:
        """The thread, for seeks and offsets."""
        return self._thread

    def on_buffer_full(self, tp: TP) -> None:
        """Pause the partition itself, where Faust would leave its records inside the fetcher."""
        self._thread.thread_loop.call_soon_threadsafe(self._thread.hold, tp, True)

    def on_buffer_drop(self, tp: TP) -> None:
        """Resume the partition."""
        self._thread.thread_loop.call_soon_threadsafe(self._thread.hold, tp, False)

    def resume_partitions(self, tps: Any) -> None:
        """Resume, and wake a fetch loop that had nothing to fetch."""
        super().resume_partitions(tps)
        self._room.set()

    async def _wait_next_records(self, timeout: float) -> tuple[Any, Any]:
        if not self.flow_active:
            await self.wait(cast(Any, self.can_resume_flow))
        active = self._get_active_partitions()
        if active:
            return await self._getmany(active, timeout), active
        self._room.clear()  # Faust sleeps a whole second here
        await self.wait_first(self._room.wait(), timeout=IDLE_POLL_S)
        return {}, active

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[Any, ConsumerMessage]]:
        """One message per partition that has records: its value is the `Batch`."""
        batches, _ = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        for partition, batch in (batches or {}).items():
            if self.should_stop or not self.flow_active or self.app.consumer_generation_id != generation:
                return
            self._read_offset[partition] = None  # the pipeline's own check of positions replaces Faust's
            yield partition, _as_message(partition, batch, generation)

    async def perform_seek(self) -> None:
        """Do nothing: the pipelines seek, to their own positions."""


def _as_message(partition: Any, batch: Batch, generation: int) -> ConsumerMessage:
    last = batch.records[-1]
    return ConsumerMessage(
        partition.topic,
        partition.partition,
        last.offset,
        last.timestamp / 1000,
        0,
        None,
        None,
        cast(Any, batch),
        None,
        0,
        0,
        partition,
        generation_id=generation,
    )


class BatchTransport(driver.Transport):
    """The aiokafka transport with `BatchConsumer`."""

    Consumer = BatchConsumer


class BatchSchema(faust.Schema[Any, Any]):
    """Hands the batch to the agent as it is."""

    def compile(self, app: Any, **_: Any) -> Any:
        """The decoder that Faust calls for each message."""
        new_event = app.conf.Event

        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return new_event(app, None, message.value, None, message)

        return decode
