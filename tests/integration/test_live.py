"""The live page of a real fleet of two workers, in a real Chromium: what happens in one worker is seen at the other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from app.local.kafka import LocalKafka
from tests.browser import Browser
from tests.integration.fleet import TestedFleet

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOSTILE = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>Bobby"
HTML = {"Accept": "text/html,application/xhtml+xml"}


class Shop:
    """Creates orders at the workers in turn, and asks them."""

    def __init__(self, session: aiohttp.ClientSession, urls: list[str]) -> None:
        self.session = session
        self.urls = urls

    async def command(self, kind: str, worker: int = 0, **body: Any) -> None:
        """Give a command; right after their start workers may not know of each other yet."""
        async with asyncio.timeout(20):
            while True:
                async with self.session.post(f"{self.urls[worker]}/commands/{kind}", json=body) as answer:
                    if answer.status in (200, 201):
                        return
                    assert answer.status == 503, await answer.text()
                await asyncio.sleep(0.05)

    async def create(self, order_id: str, worker: int = 0, name: str = "Ada", price: str = "3.50") -> None:
        items = [{"product_id": "p", "quantity": 2, "price": price}]
        await self.command(
            "CreateOrder", worker, order_id=order_id, customer_id="c", customer_name=name, customer_email="a@b.org",
            items=items,
        )  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    fleet = TestedFleet(kafka, "live.", tmp_path_factory.mktemp("live"))
    await fleet.make_topics()
    workers = [fleet.worker(name, live_clients_max="4") for name in ("one", "two")]
    try:
        await fleet.up(*workers)
        async with aiohttp.ClientSession() as session:
            made = Shop(session, [worker.url for worker in workers])
            await made.create("first")
            yield made
    finally:
        fleet.down()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    async with Browser(tmp_path_factory.mktemp("browser")) as made:
        await made.look()
        yield made


def row(order_id: str) -> str:
    return f"document.querySelector('tr[data-id={json.dumps(order_id)}]')?.innerText ?? ''"


async def test_an_order_appears_while_somebody_watches(shop: Shop, browser: Browser) -> None:
    await browser.open(f"{shop.urls[1]}/")
    await browser.until("document.getElementById('status').dataset.state === 'live'")
    for worker, order_id in enumerate(("watched-one", "watched-two", "watched-three")):
        assert await browser.ask(row(order_id)) == ""
        await shop.create(order_id, worker % 2, name="Grace")
        assert "Grace" in await browser.until(row(order_id))
    await shop.command("ProcessPayment", order_id="watched-one", payment_id="p", amount="7.00")
    await browser.until(f"{row('watched-one')}.includes('paid')")
    await shop.create("dear", price="900.00")
    await browser.until("document.querySelector('.alerts').innerText.includes('dear')")
    minute = await browser.ask("document.querySelector('[data-figure=orders-minute]').innerText")
    assert int(minute) >= 4
    assert browser.console == []


async def test_hostile_names_are_shown_as_they_are(shop: Shop, browser: Browser) -> None:
    await shop.create("hostile", name=HOSTILE)
    for path in ("/", "/orders/hostile/timeline"):
        await browser.open(shop.urls[0] + path)
        await browser.until(f"document.querySelector('main').innerText.includes({json.dumps(HOSTILE)})")
        assert await browser.ask("window.hacked ?? null") is None
    assert browser.console == []


async def test_the_page_needs_no_script_and_fits_a_phone(shop: Shop, browser: Browser) -> None:
    await browser.look(width=390, height=800, scripts=False)
    try:
        await browser.open(f"{shop.urls[1]}/")
        assert "Grace" in await browser.ask(row("watched-one"))
        assert await browser.ask("document.documentElement.scrollWidth <= 390")
    finally:
        await browser.look()


async def test_a_timeline_is_served_by_any_worker(shop: Shop) -> None:
    for url in shop.urls:
        async with shop.session.get(f"{url}/orders/watched-one/timeline", headers=HTML) as answer:
            page = await answer.text()
            assert answer.status == 200, page
            assert "Order created" in page
            assert "Order payment processed" in page
        async with shop.session.get(f"{url}/orders/nobody/timeline", headers=HTML) as answer:
            assert (answer.status, answer.content_type) == (404, "text/html")
        async with shop.session.get(f"{url}/orders/nobody/timeline") as answer:
            assert (answer.status, answer.content_type) == (404, "application/problem+json")


async def test_programs_get_json_where_browsers_get_pages(shop: Shop) -> None:
    async with shop.session.get(f"{shop.urls[0]}/") as answer:
        told = await answer.json()
    assert {order["order_id"] for order in told["orders"]} >= {"first", "watched-one", "hostile"}
    assert told["lag"][0]["workers"] == 2
    async with shop.session.get(f"{shop.urls[0]}/", headers=HTML) as answer:
        assert answer.content_type == "text/html"
        assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
    async with shop.session.get(f"{shop.urls[0]}/orders/first", headers=HTML) as answer:
        assert answer.content_type == "application/json"


async def test_the_feed_of_one_worker_tells_of_all(shop: Shop) -> None:
    wanted = {f"fed-{number}" for number in range(6)}
    async with shop.session.get(f"{shop.urls[1]}/live?types=order.created.v1") as feed:
        assert await feed.content.readline() == b"retry: 2000\n"
        for number, order_id in enumerate(sorted(wanted)):
            await shop.create(order_id, number % 2)
        heard: set[str] = set()
        async with asyncio.timeout(10):
            while heard != wanted:
                line = await feed.content.readline()
                if line.startswith(b"data: "):
                    told = json.loads(line[6:])
                    assert told.keys() == {"id", "type", "stream_id", "version", "time"}
                    heard.add(told["stream_id"])


@pytest.mark.long
async def test_a_worker_that_has_just_started_knows_what_happened(
    shop: Shop, kafka: LocalKafka, tmp_path: Path
) -> None:
    """Its notifications are all of the future; the ends of the topics tell of the past."""
    late = TestedFleet(kafka, "live.", tmp_path).worker("late")
    late.start(with_parent=True)
    try:
        async with asyncio.timeout(30):
            while True:
                late.check_alive()
                try:
                    async with shop.session.get(f"{late.url}/") as answer:
                        told = await answer.json()
                except aiohttp.ClientError:
                    told = {"orders": []}
                if "first" in {order["order_id"] for order in told["orders"]}:
                    break
                await asyncio.sleep(0.1)
    finally:
        late.stop()
