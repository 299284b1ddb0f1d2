"""Windows of the catalogue on a real fleet of two workers, one of which is killed while windows are open."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import aiohttp

from app.domain.order import ORDER, CreateOrder, Item, ProcessPayment
from app.runtime.codec import utc_now
from tests.integration.fleet import TestedFleet, kill
from tests.integration.shop import Shop

CUSTOMERS = ("ann", "bob", "cid")


def order(order_id: str, customer: str, total: int) -> CreateOrder:
    return CreateOrder(order_id, customer, customer, "a@example.org", (Item("p", 1, Decimal(total)),))


async def test_windows_close_once_whoever_dies(fleet: TestedFleet) -> None:
    stays, dies = fleet.worker("stays"), fleet.worker("dies")
    await fleet.up(stays, dies)
    now = utc_now()
    then = now.replace(second=10, microsecond=0) - timedelta(minutes=30)
    async with aiohttp.ClientSession() as session:
        shop = Shop(fleet.settings, session)
        try:
            await _trade(shop, then)
            await shop.until(f"{stays.url}/windows/orders-per-minute", lambda _, one: _counts(one, "open") == [12])
            await shop.until(f"{dies.url}/windows/orders-per-minute", lambda _, one: _counts(one, "open") == [12])
            await kill(dies)
            for number in range(fleet.settings.partitions):
                (id_,) = shop.ids(number, 1, "recent")
                await shop.send(ORDER, order(id_, "dan", 5))
            await _check_last_minute(shop, stays.url)
            await _check_finals(shop, stays.url, then)
            await _check_late(shop, stays.url, then)
        finally:
            await shop.close()


async def _trade(shop: Shop, then: datetime) -> None:
    """Each customer orders once in each partition within one minute, and pays for one order."""
    for number in range(4):
        for second, (customer, id_) in enumerate(zip(CUSTOMERS, shop.ids(number, 3, "old"), strict=True)):
            await shop.send(ORDER, order(id_, customer, 10), then + timedelta(seconds=second))
            if not number:
                payment = ProcessPayment(id_, f"pay-{id_}", Decimal(10))
                await shop.send(ORDER, payment, then + timedelta(seconds=5))


async def _check_last_minute(shop: Shop, url: str) -> None:
    name = f"{url}/windows/orders-last-minute"
    seen = await shop.until(name, lambda _, one: one["figure"]["count"] == 4)
    figure = seen["figure"]
    assert (figure["total"], figure["key"]) == ("20", None)
    assert datetime.fromisoformat(figure["end"]) - datetime.fromisoformat(figure["start"]) == timedelta(minutes=1)
    assert (await shop.get(f"{name}?key=dan"))[1]["figure"]["count"] == 4
    assert (await shop.get(f"{name}?key=ann"))[1]["figure"]["count"] == 0
    later = (utc_now() + timedelta(minutes=2)).isoformat().replace("+00:00", "Z")
    assert (await shop.get(f"{name}?at={later}"))[1]["figure"]["count"] == 0


async def _check_finals(shop: Shop, url: str, then: datetime) -> None:
    minute = then.replace(second=0)
    seen = await shop.until(f"{url}/windows/orders-per-minute", lambda _, one: _counts(one, "finals") == [12])
    assert datetime.fromisoformat(seen["finals"][0]["start"]) == minute
    await shop.until(f"{url}/windows/payments-per-five-minutes", lambda _, one: _counts(one, "finals") == [3] * 5)
    await shop.until(f"{url}/windows/shopping-sprees", lambda _, one: _counts(one, "finals") == [4] * 3)
    sprees = (await shop.get(f"{url}/windows/shopping-sprees?key=bob"))[1]
    (spree,) = sprees["finals"]
    begin = then + timedelta(seconds=1)
    wanted = {"window": "shopping-sprees", "key": "bob", "count": 4, "total": "40"}
    assert wanted.items() <= spree.items()
    assert datetime.fromisoformat(spree["start"]) == begin
    assert datetime.fromisoformat(spree["end"]) == begin + timedelta(minutes=5)
    for window, finals in (("orders-per-minute", 1), ("payments-per-five-minutes", 5), ("shopping-sprees", 3)):
        # The view shows a commit a moment before the topic's readers see it. A final that never comes fails here.
        await shop.until_records(shop.topics.finals(window), finals)
        told = await shop.told(shop.topics.finals(window))
        assert (len(told), len({one["id"] for one in told})) == (finals, finals)
    (told_once,) = await shop.told(shop.topics.finals("orders-per-minute"))
    assert told_once["data"] == seen["finals"][0]


async def _check_late(shop: Shop, url: str, then: datetime) -> None:
    (id_,) = shop.ids(0, 1, "late")
    await shop.send(ORDER, order(id_, "eve", 7), then)
    await shop.until(f"{url}/orders/{id_}", lambda status, _: status == 200)
    for window in ("orders-per-minute", "shopping-sprees", "orders-last-minute"):
        topic = shop.topics.late(window)
        (record,) = await shop.until_records(topic, 1)
        assert (record.key, dict(record.headers)["window"]) == (id_.encode(), window.encode())
    assert (await shop.get(f"{url}/windows/orders-per-minute?key=ann"))[0] == 422
    assert (await shop.get(f"{url}/windows/none"))[0] == 404


def _counts(window: Any, which: str) -> list[int]:
    return [one["count"] for one in window.get(which, [])]
