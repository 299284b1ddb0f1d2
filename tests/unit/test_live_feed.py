"""The live feed: server-sent events, bounded in every way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import ClientResponse, ClientTimeout, web
from aiohttp.test_utils import TestClient, TestServer

import app.views.live.feed
from app.buses.event import BusEvent
from app.views.live.feed import Feed
from app.views.problems import problems

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
Client = TestClient[web.Request, web.Application]


def notification(number: int, type_: str = "order.created.v1") -> BusEvent:
    return BusEvent(f"e{number}", type_, f"o{number}", NOON, version=number)


class Stream:
    """Reads server-sent events."""

    def __init__(self, response: ClientResponse) -> None:
        self.response = response

    async def next(self) -> dict[str, str]:
        """The next message that is none of comments alone, by field."""
        async with asyncio.timeout(5):
            while True:
                fields: dict[str, str] = {}
                while (line := (await self.response.content.readline()).decode()) not in ("\n", ""):
                    name, _, value = line.rstrip("\n").partition(": ")
                    fields[name or "comment"] = value
                if fields.keys() - {"comment", "retry"}:
                    return fields
                if not line:
                    return {}


@pytest.fixture
async def feed(monkeypatch: pytest.MonkeyPatch) -> Feed:
    monkeypatch.setattr(app.views.live.feed, "LOOK_EVERY_S", 0.05)
    return Feed(clients_max=3)


@pytest.fixture
async def client(feed: Feed) -> AsyncIterator[Client]:
    web_app = web.Application(middlewares=[problems])
    feed.add_to(web_app)
    async with TestClient(TestServer(web_app), timeout=ClientTimeout(total=20)) as made:
        yield made


async def listen(client: Client, feed: Feed, query: str = "", **headers: str) -> Stream:
    before = feed.stats.clients
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    response = await client.get(f"/live{query}", headers=told)
    assert response.status == 200
    assert response.headers["Content-Type"].startswith("text/event-stream")
    async with asyncio.timeout(5):
        while feed.stats.clients <= before:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return Stream(response)


async def leave(stream: Stream, feed: Feed) -> None:
    """Close the connection and wait until the feed has noticed."""
    before = feed.stats.clients
    stream.response.close()
    async with asyncio.timeout(5):
        while feed.stats.clients == before:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_notification_is_told_to_everybody_who_wants_it(client: Client, feed: Feed) -> None:
    everything, alerts = await listen(client, feed), await listen(client, feed, "?types=alert.raised.v1,other.v1")
    await feed.hear(notification(1))
    await feed.hear(notification(2, "alert.raised.v1"))
    first, second = await everything.next(), await everything.next()
    assert json.loads(first["data"]) == {
        "id": "e1",
        "type": "order.created.v1",
        "stream_id": "o1",
        "version": 1,
        "time": "2026-03-01T12:00:00Z",
    }
    assert json.loads(second["data"])["id"] == "e2"
    assert await alerts.next() == second


async def test_who_comes_back_gets_what_was_missed(client: Client, feed: Feed) -> None:
    stream = await listen(client, feed)
    await feed.hear(notification(1))
    last = (await stream.next())["id"]
    await leave(stream, feed)
    await feed.hear(notification(2))
    await feed.hear(notification(3))
    again = await listen(client, feed, Last_Event_ID=last)
    assert [json.loads((await again.next())["data"])["id"] for _ in range(2)] == ["e2", "e3"]
    up_to_date = await listen(client, feed, Last_Event_ID=f"{last.partition('-')[0]}-3")
    await feed.hear(notification(4))
    assert json.loads((await up_to_date.next())["data"])["id"] == "e4"


@pytest.mark.parametrize("last", ["elsewhere-1", "nonsense", "{run}-99999", "{run}-1"])
async def test_who_missed_too_much_is_told_to_begin_anew(client: Client, feed: Feed, last: str) -> None:
    for number in range(app.views.live.feed.KEPT + 5):
        await feed.hear(notification(number))
    stream = await listen(client, feed, Last_Event_ID=last.format(run=feed._run))
    assert (await stream.next())["event"] == "restart"
    await feed.hear(notification(7))
    assert json.loads((await stream.next())["data"])["id"] == "e7"


async def test_changes_may_be_gathered(client: Client, feed: Feed) -> None:
    stream = await listen(client, feed, "?pace_ms=100")
    for number in range(5):
        await feed.hear(notification(number))
    counted = 0
    while counted < 5:
        message = await stream.next()
        assert message["event"] == "changes"
        counted += json.loads(message["data"])["count"]
    assert counted == 5


async def test_clients_are_limited(client: Client, feed: Feed) -> None:
    streams = [await listen(client, feed) for _ in range(3)]
    refused = await client.get("/live")
    assert (refused.status, (await refused.json())["type"]) == (503, "urn:eventfleet:problem:too_many_clients")
    assert refused.headers["Retry-After"] == "1"
    await leave(streams[0], feed)
    await listen(client, feed)
    assert feed.stats.refused == 1


async def test_a_client_that_takes_nothing_is_dropped_and_nobody_waits_for_it(
    client: Client, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.views.live.feed, "WAITING_MAX", 10)
    slow, quick = await listen(client, feed), await listen(client, feed)
    number = 0
    async with asyncio.timeout(15):
        while feed.stats.slow_dropped == 0:
            await feed.hear(BusEvent(f"{number} {'x' * 50_000}", "order.created.v1", "o", NOON))
            assert json.loads((await quick.next())["data"])["id"].startswith(f"{number} ")
            number += 1
    assert feed.stats.clients == 1
    slow.response.close()


async def test_a_silent_feed_beats(client: Client, feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.views.live.feed, "HEARTBEAT_S", 0.05)
    stream = await listen(client, feed)
    lines = b""
    async with asyncio.timeout(5):
        while b": heartbeat" not in lines:
            lines += await stream.response.content.readline()


async def test_streams_end_when_the_worker_stops(feed: Feed) -> None:
    web_app = web.Application(middlewares=[problems])
    feed.add_to(web_app)
    async with TestClient(TestServer(web_app), timeout=ClientTimeout(total=20)) as made:
        streams = [await listen(made, feed), await listen(made, feed, "?pace_ms=60000")]
        await feed.hear(notification(1))
        assert (await streams[1].next())["event"] == "changes"
        started = asyncio.get_running_loop().time()
        await made.server.close()
        assert asyncio.get_running_loop().time() - started < 5


@pytest.mark.parametrize("query", ["?pace_ms=-1", "?pace_ms=x", "?type=order.created.v1"])
async def test_wrong_wishes_are_named(client: Client, query: str) -> None:
    answer: Any = await client.get(f"/live{query}")
    assert (answer.status, (await answer.json())["type"]) == (422, "urn:eventfleet:problem:invalid_parameters")
