"""Every read model of a real fleet of two workers, from whichever worker, against a recount of the log to the cent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from app.local.kafka import LocalKafka
from app.runtime.topics import Topics
from loadtest.reading import read_topic
from tests.integration.fleet import TestedFleet
from tests.recounted import Recounted, recounted

pytestmark = pytest.mark.asyncio(loop_scope="module")

SETTLE_S = 20.0


async def nothing() -> None:
    """What happens meanwhile."""


@dataclass(frozen=True)
class Client:
    """Asks the fleet's workers, one after the other."""

    session: aiohttp.ClientSession
    fleet: TestedFleet
    urls: tuple[str, ...]

    async def ask(self, path: str, worker: int = 0, **headers: str) -> tuple[int, Any, Any]:
        """Status, body, headers."""
        async with self.session.get(self.urls[worker] + path, headers=headers) as got:
            raw = await got.read()
            return got.status, json.loads(raw) if raw else None, got.headers

    async def all(self, path: str, limit: int = 7) -> list[Any]:
        """Every item of a view, page by page, each from another worker."""
        found: list[Any] = []
        after, worker = "", 0
        while True:
            status, body, _ = await self.ask(f"{path}?limit={limit}{after}", worker % len(self.urls))
            if status in (404, 503):  # not there yet, or on its way: who waits for it asks again
                return found
            assert status == 200, body
            found += body["items"]
            if body["next"] is None:
                return found
            after, worker = f"&after={body['next']}", worker + 1

    async def create(self, order_id: str, customer: str) -> None:
        """Take an order."""
        body = {
            "order_id": order_id,
            "customer_id": customer,
            "customer_name": "Ada",
            "customer_email": "a@b.c",
            "items": [{"product_id": "p", "quantity": 1, "price": "1.10"}],
        }
        async with self.session.post(f"{self.urls[0]}/commands/CreateOrder", json=body) as got:
            assert got.status == 201, await got.text()

    async def recount(self) -> Recounted:
        """What the log comes to."""
        s = self.fleet.settings
        raws = [raw async for raw in read_topic(s.brokers, Topics(s.topic_prefix).events("orders"), s.partitions)]
        return recounted(json.loads(raw.value or b"") for raw in raws)

    async def views(self, of: Recounted) -> Recounted:
        """What the views say."""
        days = await self.all("/orders-by-day", limit=1)
        customers = await self.all("/customers", limit=50)
        found = Recounted(
            {row["day"]: (row["count"], Decimal(row["total"])) for row in days},
            {row["customer_id"]: (row["orders"], Decimal(row["spent"]), row["last_order_id"]) for row in customers},
        )
        for customer in of.lists:
            rows = await self.all(f"/customers/{customer}/orders", limit=2)
            found.lists[customer] = [(row["order_id"], row["status"], Decimal(row["total"])) for row in rows]
        return found

    async def agree(self) -> Recounted:
        """Wait until views and log agree, and say on what."""
        log = await self.recount()
        async with asyncio.timeout(SETTLE_S):
            while (views := await self.views(log)) != log:  # noqa: ASYNC110 - what is waited for is another process
                await asyncio.sleep(0.1)
        return views


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    directory: Path = tmp_path_factory.mktemp("read-models")
    fleet = TestedFleet(kafka, "read-models.", directory)
    await fleet.make_topics()
    workers = fleet.worker("one"), fleet.worker("two")
    try:
        await fleet.up(*workers)
        async with aiohttp.ClientSession() as session:
            made = Client(session, fleet, tuple(worker.url for worker in workers))
            driven = await fleet.load(150, 150, made.urls, nothing, think_s=0.05)
            assert not driven.mismatches
            yield made
    finally:
        fleet.down()


async def test_every_view_says_what_the_log_comes_to(client: Client) -> None:
    agreed = await client.agree()
    assert sum(count for count, _ in agreed.days.values()) == 150
    assert sum(orders for orders, _, _ in agreed.customers.values()) == 150
    assert any(spent for _, spent, _ in agreed.customers.values())


async def test_any_worker_answers_for_a_day_and_for_a_customer(client: Client) -> None:
    agreed = await client.agree()
    day, (count, total) = next(iter(agreed.days.items()))
    customer, (orders, _, _) = next(iter(agreed.customers.items()))
    for worker in (0, 1):
        status, row, headers = await client.ask(f"/orders-by-day/{day}", worker)
        assert (status, row) == (200, {"day": day, "count": count, "total": str(total)})
        assert headers["ETag"] == f'"{count}"'
        assert headers["Eventfleet-Position"].count("orders.events/") == client.fleet.settings.partitions
        assert (await client.ask(f"/orders-by-day/{day}", worker, **{"If-None-Match": headers["ETag"]}))[0] == 304
        status, row, headers = await client.ask(f"/customers/{customer}", worker)
        assert (status, row["orders"]) == (200, orders)
        assert "customers.inbox/" in headers["Eventfleet-Position"]
        assert (await client.ask(f"/customers/{customer}", worker, **{"If-None-Match": headers["ETag"]}))[0] == 304


async def test_pages_of_a_list_stay_right_while_orders_come_in(client: Client) -> None:
    before = [f"paged-{number}" for number in range(9)]
    for order_id in before:
        await client.create(order_id, "pager")
    await client.agree()
    seen, after = [], ""
    for number in range(9):
        _, body, _ = await client.ask(f"/customers/pager/orders?limit=2{after}", number % 2)
        seen += [row["order_id"] for row in body["items"]]
        if body["next"] is None:
            break
        after = f"&after={body['next']}"
        await client.create(f"newer-{number}", "pager")
        await client.agree()
    assert seen == before[::-1]
    first = (await client.ask("/customers/pager/orders?limit=1"))[1]["items"]
    assert first[0]["order_id"].startswith("newer-")


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/orders-by-day/1999-01-01", 404, "no 1999-01-01 in orders-by-day"),
        ("/customers/nobody", 404, "no nobody in customers"),
        ("/customers/nobody/orders", 404, "no nobody in customer-orders"),
        ("/customers/pager?version=1", 422, "made of many streams"),
        ("/customers/pager?as_of=2026-01-01T00:00:00Z", 422, "made of many streams"),
        ("/orders-by-day/1999-01-01?version=1", 422, "made of many streams"),
        ("/orders-by-day/1999-01-01?min_version=1", 422, "has parts"),
        ("/customers/pager/orders?after=yesterday", 422, "after"),
        ("/customers/pager/orders?after=9999999999999999999~x", 422, "after"),
        ("/customers?limit=0", 422, "limit"),
    ],
)
async def test_what_there_is_not_is_said(client: Client, path: str, status: int, words: str) -> None:
    for worker in (0, 1):
        told, body, _ = await client.ask(path, worker)
        assert (told, words in body["detail"]) == (status, True), body
