"""What has happened of late, as far as this worker knows: the newest orders and alerts.

It begins with the ends of the topics, so that a worker that has just started has something to show, and goes on with
notifications. They are thin: what an order looks like now is asked of the views.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from aiokafka.errors import KafkaError

from app.buses.event import BusEvent
from app.domain.order import ORDER, OrderCreated
from app.kernel.errors import FleetError
from app.runtime.ports import Cluster, LogReader, TopicPartition
from app.views.live.notifier import thin

log = logging.getLogger(__name__)

ORDERS_MAX, ALERTS_MAX = 20, 8
TAIL_RECORDS = 100
RETRY_S = 2.0
ALERT = "alert.raised.v1"
SOURCE = f"/eventfleet/{ORDER.category}"


class Seen(msgspec.Struct):
    """An order that was created of late, and the newest version of it that was heard of."""

    order_id: str
    created_at: datetime
    version: int


class Raised(msgspec.Struct, frozen=True):
    """An alert: which filter picked which stream."""

    id: str
    filter: str
    stream_id: str
    time: datetime


class Activity:
    """Used in the loop of the views alone."""

    def __init__(self) -> None:
        self._orders: dict[str, Seen] = {}
        self._alerts: dict[str, Raised] = {}
        self.alerts_heard = 0

    @property
    def orders(self) -> list[Seen]:
        """The newest first."""
        return sorted(self._orders.values(), key=lambda seen: seen.created_at, reverse=True)[:ORDERS_MAX]

    @property
    def alerts(self) -> list[Raised]:
        """The newest first."""
        return sorted(self._alerts.values(), key=lambda raised: raised.time, reverse=True)[:ALERTS_MAX]

    async def hear(self, event: BusEvent) -> None:
        """A notification, or the thin form of a record that was found at a topic's end."""
        if event.type == ALERT:
            self._alerts[event.id] = Raised(event.id, event.source.rpartition("/")[2], event.stream_id, event.time)
            if len(self._alerts) > 2 * ALERTS_MAX:
                self._alerts = {raised.id: raised for raised in self.alerts}
        elif event.type == OrderCreated.wire_name:
            self._orders[event.stream_id] = Seen(event.stream_id, event.time, event.version or 1)
            if len(self._orders) > 2 * ORDERS_MAX:
                self._orders = {seen.order_id: seen for seen in self.orders}
        elif event.source == SOURCE and (seen := self._orders.get(event.stream_id)) is not None:
            seen.version = max(seen.version, event.version or 0)

    async def begin(self, cluster: Cluster, topics: Sequence[str], partitions: int) -> None:
        """Read the ends of the topics; brokers and topics that are not there yet are waited for."""
        wanted = [TopicPartition(topic, number) for topic in topics for number in range(partitions)]
        while True:
            try:
                async with cluster.reader() as reader:
                    await self._read(reader, wanted)
            except (KafkaError, OSError, TimeoutError, FleetError) as error:
                log.info("what happened before cannot be read yet: %r", error)
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def _read(self, reader: LogReader, wanted: Sequence[TopicPartition]) -> None:
        bounds = await reader.bounds(wanted)
        begins = {p: max(b.begin, b.end - TAIL_RECORDS) for p, b in bounds.items()}
        async for chunk in reader.read(begins, {p: b.end for p, b in bounds.items()}):
            for record in chunk.records:
                await self._hear_record(chunk.partition, record)

    async def _hear_record(self, partition: TopicPartition, record: Any) -> None:
        try:
            event = thin(record.value or b"")
        except msgspec.DecodeError:
            return  # somebody else's record: the agents that read it put it among the dead letters
        source = SOURCE if partition.topic.endswith(f"{ORDER.category}.events") else event.source
        await self.hear(msgspec.structs.replace(event, source=source))
