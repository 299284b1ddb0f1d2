"""One subscription's consumer on Kafka: what it reads, in which order it hands it over, when it commits."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from aiokafka.structs import TopicPartition

from app.buses.contract import STOP_TIMEOUT_S, BusStats, Failure, Report, Subscription, tell
from app.buses.delivery import attempt, in_lanes
from app.buses.event import BusEvent, decode
from app.kernel.errors import FleetError, UndecodableMessage
from app.runtime.kafka.connection import Connection

log = logging.getLogger(__name__)

ATTEMPTS = 3
RETRY_AFTER_S = 0.1
POLL_MS = 200
BATCH_RECORDS_MAX = 100
"""Handled to their end between two commits: a death or a rebalance repeats no more than these."""
START_TIMEOUT_S = 15.0
SETTLE_S = 2.0
BACKOFF_S_MIN, BACKOFF_S_MAX = 0.1, 5.0
SESSION_MS, HEARTBEAT_MS, REQUEST_MS = 6_000, 1_000, 10_000
"""A request to join waits for the other members: its deadline must lie above the session's."""

OUTAGE = (KafkaError, OSError, TimeoutError, FleetError)

Bury = Callable[[Subscription, Any, Exception], Awaitable[None]]


class Hearing:
    """Reads, hands over, commits; and begins anew, with a growing back-off, where that fails."""

    def __init__(
        self,
        connection: Connection,
        topic: str,
        subscription: Subscription,
        stats: BusStats,
        *,
        report: Report,
        bury: Bury,
    ) -> None:
        self.listening = False
        self._connection, self._topic, self._subscription = connection, topic, subscription
        self._stats, self._report, self._bury = stats, report, bury
        self._group = None if subscription.group is None else f"{topic}.{subscription.group}"
        self._stopping, self._idle = asyncio.Event(), asyncio.Event()
        self._idle.set()
        self._new_places: set[TopicPartition] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, in the background."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Finish and commit the batch under way, within the deadline."""
        self._stopping.set()
        if self._task is not None:
            _, late = await asyncio.wait({self._task}, timeout=STOP_TIMEOUT_S)
            for task in late:
                task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        backoff_s = BACKOFF_S_MIN
        while not self._stopping.is_set():
            consumer = self._consumer()
            try:
                await self._begin(consumer)
                backoff_s = BACKOFF_S_MIN
                while not self._stopping.is_set():
                    await self._next(consumer)
            except OUTAGE as error:
                log.warning("%s lost its consumer and begins anew: %r", self._subscription.name, error)
                self._stats.reconnects += 1
            except Exception:
                log.exception("%s begins anew after an error that nobody expects", self._subscription.name)
                self._stats.reconnects += 1
            finally:
                self.listening = False
                await asyncio.shield(let_go(consumer))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), backoff_s * random.uniform(0.5, 1.0))
            backoff_s = min(2 * backoff_s, BACKOFF_S_MAX)

    def _consumer(self) -> Any:
        options = self._connection.client_options | {"request_timeout_ms": REQUEST_MS}
        return AIOKafkaConsumer(
            group_id=self._group,
            session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=HEARTBEAT_MS,
            auto_offset_reset="latest",
            enable_auto_commit=False,
            isolation_level="read_committed",
            **options,
        )

    async def _begin(self, consumer: Any) -> None:
        """Come to be assigned partitions; without a group these are all."""
        async with asyncio.timeout(START_TIMEOUT_S):
            consumer.subscribe([self._topic], listener=_Rebalances(self))
            await consumer.start()
            await self._take_places(consumer)

    # Places

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """The group gave us these: before anything is read the places in them must be known."""
        self._new_places.update(partitions)

    async def settle(self) -> None:
        """A rebalance begins: let the batch under way be committed, so that its next owner does not repeat it."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), SETTLE_S)

    async def _take_places(self, consumer: Any) -> None:
        """Know, and for a group write down, where each partition is read from: a new group begins at the end.

        Unwritten, the place of a member that dies before its first event would be the end at the time of its successor.
        """
        partitions = consumer.assignment() if self._group is None else self._new_places & consumer.assignment()
        self._new_places = set()
        places = {}
        for partition in partitions:
            if self._group is None or await consumer.committed(partition) is None:
                places[partition] = await consumer.position(partition)
        if self._group is not None and places:
            await consumer.commit(places)
        self.listening = True

    # Events

    async def _next(self, consumer: Any) -> None:
        if self._new_places:
            await self._take_places(consumer)
        fetched: Mapping[TopicPartition, Sequence[Any]] = await consumer.getmany(
            timeout_ms=POLL_MS, max_records=BATCH_RECORDS_MAX
        )
        if not fetched:
            return
        self._idle.clear()
        try:
            await self._hand_over([record for records in fetched.values() for record in records])
            await self._commit(consumer, {partition: records[-1].offset + 1 for partition, records in fetched.items()})
        finally:
            self._idle.set()

    async def _hand_over(self, records: Sequence[Any]) -> None:
        origins: dict[int, Any] = {}
        events: list[BusEvent] = []
        for record in records:
            try:
                event = decode(record.value or b"")
            except UndecodableMessage as error:
                self._stats.dropped += 1
                log.warning("%s/%d@%d: %s", record.topic, record.partition, record.offset, error)
                continue
            if self._subscription.wants(event):
                origins[id(event)] = record
                events.append(event)
        await in_lanes(events, lambda event: self._handle(event, origins[id(event)]))

    async def _handle(self, event: BusEvent, record: Any) -> None:
        attempts = 1 if self._group is None else ATTEMPTS
        error: Exception | None = None
        for attempt_number in range(attempts):
            if attempt_number:
                await asyncio.sleep(RETRY_AFTER_S * 2**attempt_number)
            error = await attempt(self._subscription.handler, event)
            if error is None:
                self._stats.handled += 1
                return
        if error is not None:
            self._stats.failed += 1
            tell(self._report, Failure(self._subscription.name, event, error, attempts))
            if self._group is not None:
                await self._bury(self._subscription, record, error)

    async def _commit(self, consumer: Any, ends: Mapping[TopicPartition, int]) -> None:
        if self._group is None:
            return
        try:
            await consumer.commit({tp: end for tp, end in ends.items() if tp in consumer.assignment()})
        except (CommitFailedError, IllegalStateError) as error:
            log.info("%s lost partitions before it could commit; they are repeated: %r", self._subscription.name, error)


class _Rebalances(ConsumerRebalanceListener):
    """Tells the hearing of the group's decisions."""

    def __init__(self, hearing: Hearing) -> None:
        self._hearing = hearing

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """A rebalance begins."""
        await self._hearing.settle()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """A rebalance has ended."""
        self._hearing.assigned(assigned)


async def let_go(client: Any) -> None:
    """Stop a consumer within the deadline, whatever state it is in.

    In a task of its own: aiokafka awaits tasks that it has cancelled, and so can end as if we were cancelled.
    """
    stop = asyncio.create_task(client.stop())
    await asyncio.wait({stop}, timeout=STOP_TIMEOUT_S)
    if not stop.done():
        stop.cancel()
    await asyncio.gather(stop, return_exceptions=True)
