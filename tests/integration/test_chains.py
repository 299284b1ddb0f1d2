"""Fulfilment on a real fleet, roles split: commands, chains and reads in processes of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import aiohttp
import msgspec
import pytest_asyncio

from app.domain.inventory import INVENTORY, StockProduct
from app.domain.order import ORDER, CreateOrder, Item, ProcessPayment
from app.kernel import Command, Envelope, stream_id_of
from app.runtime.codec import Codec, utc_now
from app.runtime.kafka.sender import RecordSender
from app.runtime.ports import TopicPartition
from app.runtime.topics import Topics, partition_of
from tests.integration.fleet import TestedFleet

TIMEOUT_S = 20.0
AGO = timedelta(minutes=20)
"""The stock has half an hour for its answer, a customer a quarter: so much later only the customer is late."""
STUCK_AFTER_S = 600
CODECS = {aggregate.category: Codec(aggregate.commands) for aggregate in (ORDER, INVENTORY)}


class Shop:
    """Sends commands as another service does, and looks at the views."""

    def __init__(self, fleet: TestedFleet, session: aiohttp.ClientSession, sender: RecordSender) -> None:
        self._fleet, self._session, self._sender = fleet, session, sender
        self._sent = 0

    async def send(self, command: Command, ago: timedelta = timedelta()) -> None:
        self._sent += 1
        s, id_ = self._fleet.settings, stream_id_of(command)
        category = "inventory" if type(command) in INVENTORY.commands else "orders"
        topic = Topics(s.topic_prefix).commands(category)
        value = CODECS[category].encode(Envelope(f"s{self._sent}", id_, utc_now() - ago, command), "/shop")
        await self._sender.send(TopicPartition(topic, partition_of(id_, s.partitions)), id_.encode(), value)

    async def until(self, path: str, **wanted: Any) -> dict[str, Any]:
        """The view's answer, once it has all of `wanted`."""
        seen: Any = None
        url = self._fleet.worker("reads", "reads").url + path
        try:
            async with asyncio.timeout(TIMEOUT_S):
                while True:
                    async with self._session.get(url) as got:
                        seen = await got.json(content_type=None)
                    if wanted.items() <= seen.items():
                        return dict(seen)
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"{path} stays at {seen}, not {wanted}") from None

    async def figures(self, worker: str) -> list[str]:
        """The lines of a worker's /metrics."""
        async with self._session.get(f"{self._fleet.worker(worker, worker).url}/metrics") as got:
            return (await got.text()).splitlines()


@pytest_asyncio.fixture
async def shop(fleet: TestedFleet) -> AsyncIterator[Shop]:
    roles = ("commands", "chains", "reads")
    await fleet.up(*(fleet.worker(role, role, chain_stuck_after=str(STUCK_AFTER_S)) for role in roles))
    sender = RecordSender(fleet.settings.brokers)
    async with aiohttp.ClientSession() as session:
        yield Shop(fleet, session, sender)
    await sender.close()


def order(order_id: str, *items: tuple[str, int]) -> CreateOrder:
    lines = tuple(Item(product, quantity, Decimal("1.00")) for product, quantity in items)
    return CreateOrder(order_id, "c", "Ann", "a@example.org", lines, fulfil=True)


async def test_orders_are_shipped_or_cancelled_with_everything_released(shop: Shop) -> None:
    for product in ("p0", "p1", "p2"):
        await shop.send(StockProduct(product, 2))
    await shop.send(order("good", ("p0", 1), ("p1", 1)))
    waiting = await shop.until("/chains/fulfilment/good", waiting_for="the customer's payment")
    assert waiting["state"]["stage"] == "paying"
    assert set(waiting["timers"]) == {"payment"}
    await shop.send(ProcessPayment("good", "pay", Decimal("2.00")))
    await shop.until("/orders/good", status="shipped", version=5)
    await shop.until("/chains/fulfilment/good", finished=True, timers={})

    await shop.send(order("greedy", ("p2", 2), ("p0", 5)))
    await shop.until("/orders/greedy", status="cancelled", cancel_reason="out of stock: p0")
    await shop.until("/chains/fulfilment/greedy", finished=True)

    await shop.send(order("late", ("p2", 2)), ago=AGO)
    await shop.until("/orders/late", status="cancelled", cancel_reason="not paid in time")
    await shop.send(order("after", ("p2", 2)))
    await shop.until("/chains/fulfilment/after", waiting_for="the customer's payment")

    await shop.send(msgspec.structs.replace(order("stuck", ("p1", 1)), pay_within_s=86_400), ago=AGO)
    await shop.until("/chains/fulfilment/stuck", waiting_for="the customer's payment")
    stuck = await shop.until("/chains/fulfilment?stuck=true", next=None)
    assert [(one["id"], one["waiting_for"]) for one in stuck["items"]] == [("stuck", "the customer's payment")]
    waiting = await shop.until("/chains/fulfilment?limit=1")
    assert [one["id"] for one in waiting["items"]] == ["stuck"]
    rest = await shop.until(f"/chains/fulfilment?after={waiting['next']}")
    assert [one["id"] for one in rest["items"]] == ["after"]
    figures = await shop.figures("chains")
    assert 'eventfleet_chains_stuck{chain="fulfilment"} 1.0' in figures
    assert 'eventfleet_chain_instances{chain="fulfilment",waiting_for="the customer\'s payment"} 2.0' in figures
    assert 'eventfleet_chain_instances{chain="fulfilment",waiting_for="finished"} 3.0' in figures
