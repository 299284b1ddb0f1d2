"""Fulfilment under kill -9: a shop with too little stock, a gateway that declines, and workers that die meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition as KafkaTopicPartition

from app.domain.inventory import INVENTORY, StockProduct
from app.domain.order import ORDER, CreateOrder, Item, ProcessPayment
from app.kernel import Command, Envelope, stream_id_of
from app.runtime.codec import Codec, utc_now
from app.runtime.kafka.sender import RecordSender
from app.runtime.ports import TopicPartition
from app.runtime.topics import Topics, partition_of
from tests.integration.fleet import TestedFleet, kill, lose_disk

ORDERS = 80
PRODUCTS = 4
PIECES = 40
PIECES_PER_ORDER = 3
DECLINES_EVERY = 5
TIMEOUT_S = 60.0
CODECS = {aggregate.category: Codec(aggregate.commands) for aggregate in (ORDER, INVENTORY)}


class Shop:
    """Sends commands, reads the event logs, and pays or declines what is asked for."""

    def __init__(self, fleet: TestedFleet) -> None:
        self._settings = fleet.settings
        self._topics = Topics(fleet.settings.topic_prefix)
        self._sender = RecordSender(fleet.settings.brokers)
        self._news = asyncio.Event()
        self.orders: dict[str, list[str]] = {}
        self.ids: list[str] = []
        self.available: Counter[str] = Counter()
        self.aside: Counter[str] = Counter()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Watch the events until the end."""
        watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await self._sender.close()

    async def send(self, command: Command, command_id: str) -> None:
        category = "inventory" if type(command) in INVENTORY.commands else "orders"
        id_ = stream_id_of(command)
        value = CODECS[category].encode(Envelope(command_id, id_, utc_now(), command), "/shop")
        partition = TopicPartition(self._topics.commands(category), partition_of(id_, self._settings.partitions))
        await self._sender.send(partition, id_.encode(), value)

    async def until_all_are_settled(self) -> None:
        """Every order is shipped or cancelled, and what a cancelled one had set aside is back."""

        def settled() -> bool:
            ended = [types for types in self.orders.values() if {"shipped", "cancelled"} & set(types)]
            shipped = {order_id for order_id, types in self.orders.items() if "shipped" in types}
            return len(ended) == ORDERS and set(+self.aside) == shipped

        async with asyncio.timeout(TIMEOUT_S):
            while not settled():
                self._news.clear()
                await self._news.wait()

    async def _watch(self) -> None:
        consumer: Any = AIOKafkaConsumer(
            bootstrap_servers=self._settings.brokers,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=100,
        )
        await consumer.start()
        try:
            names = [self._topics.events(category) for category in ("orders", "inventory")]
            consumer.assign([KafkaTopicPartition(name, n) for name in names for n in range(self._settings.partitions)])
            async for record in consumer:
                await self._see(json.loads(record.value))
                self._news.set()
        finally:
            await consumer.stop()

    async def _see(self, event: dict[str, Any]) -> None:
        data, kind = event["data"], event["type"].split(".")[1]
        self.ids.append(event["id"])
        if event["type"].startswith("inventory"):
            change = {"stocked": 1, "reserved": -1, "released": 1, "rejected": 0}[kind] * data["quantity"]
            self.available[event["subject"]] += change
            assert self.available[event["subject"]] == data["available"] >= 0
            if kind in ("reserved", "released"):
                self.aside[data["order_id"]] -= change
            return
        types = self.orders.setdefault(event["subject"], [])
        types.append(kind)
        assert event["version"] == len(types)
        if kind == "payment-requested":
            await self._pay(event["subject"], Decimal(data["amount"]))

    async def _pay(self, order_id: str, amount: Decimal) -> None:
        declined = "no funds" if int(order_id[1:]) % DECLINES_EVERY == 0 else None
        await self.send(ProcessPayment(order_id, f"pay-{order_id}", amount, declined), f"pay-{order_id}")


@pytest.mark.long
async def test_every_order_ends_well_though_workers_die(fleet: TestedFleet) -> None:
    one, two = fleet.worker("one"), fleet.worker("two")
    await fleet.up(one, two)
    shop = Shop(fleet)
    async with shop.open():
        for number in range(PRODUCTS):
            await shop.send(StockProduct(f"p{number}", PIECES), f"stock-{number}")
        trading = asyncio.create_task(_order(shop))
        for victim, disk in ((one, False), (two, True), (one, False)):
            await asyncio.sleep(1.5)
            await kill(victim)
            if disk:
                lose_disk(victim)
            await fleet.up(victim, one, two)
        await trading
        await shop.until_all_are_settled()
    assert len(shop.ids) == len(set(shop.ids))
    ends = Counter("shipped" if "shipped" in types else "cancelled" for types in shop.orders.values())
    assert ends["shipped"] > 10, ends
    assert ends["cancelled"] > 10, ends
    assert sum(shop.aside.values()) + sum(shop.available.values()) == PRODUCTS * PIECES
    for types in shop.orders.values():
        assert len(types) == len(set(types)), types
        assert not {"shipped", "cancelled"} <= set(types), types


async def _order(shop: Shop) -> None:
    for number in range(ORDERS):
        items = tuple(
            Item(f"p{(number + step) % PRODUCTS}", 1 + (number + step) % 2, Decimal("2.50"))
            for step in range(PIECES_PER_ORDER)
        )
        order = CreateOrder(f"o{number}", "c", "Ann", "a@example.org", items, fulfil=True)
        await shop.send(order, f"create-{number}")
        await asyncio.sleep(0.06)
