"""A producer that repeats a fifth of its events and shuffles all within ten: the read models are right to the cent."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from typing import Any

import aiohttp
import msgspec
from aiokafka import AIOKafkaProducer

from app.domain.order import ORDER
from app.kernel import Projection
from app.projections.customers import CUSTOMERS
from app.projections.orders import ORDERS
from app.projections.orders_by_day import ORDERS_BY_DAY
from app.runtime.codec import Codec
from app.runtime.topics import Topics, partition_of
from bench.backlog import events
from loadtest.unruly import unruly
from tests.integration.fleet import TestedFleet, kill

ORDERS_SENT = 150
TIMEOUT_S = 40.0
CODEC = Codec.of_events(ORDER)

Sent = tuple[str, bytes]


async def test_read_models_are_those_of_an_orderly_producer(fleet: TestedFleet) -> None:
    orderly = sorted(events(ORDERS_SENT), key=lambda one: one[0])  # so that events of one order stand side by side
    sent = unruly(orderly, seed=7)
    half = next(number for number in range(len(sent) // 2, len(sent)) if waiting_after(sent[:number]) > 1)
    worker = fleet.worker("reads", "reads")
    await fleet.up(worker)
    await write(fleet, sent[:half])
    await until_metric(worker.url, "held_back_events", waiting_after(sent[:half]))
    await until_metric(worker.url, "duplicates_dropped_total", 1, at_least=True)
    await kill(worker)
    await fleet.up(worker)
    await until_metric(worker.url, "held_back_events", waiting_after(sent[:half]))  # what waits survives kill -9
    await write(fleet, sent[half:])
    for projection in (ORDERS, ORDERS_BY_DAY, CUSTOMERS):
        await until_rows(worker.url, projection, folded(projection, orderly))
    for name in ("duplicates_dropped_total", "events_held_back_total"):
        assert await metric(worker.url, name) > 0, name
    assert await metric(worker.url, "held_back_events") == 0


def waiting_after(sent: Sequence[Sent]) -> int:
    """How many events of a beginning have come, while one of their predecessors has not."""
    came: dict[str, set[int]] = {}
    for id_, value in sent:
        came.setdefault(id_, set()).add(CODEC.decode(value).version or 0)
    contiguous = {
        id_: next(n for n in range(len(versions) + 1) if n + 1 not in versions) for id_, versions in came.items()
    }
    return sum(len(versions) - contiguous[id_] for id_, versions in came.items())


def folded(projection: Projection[Any], sent: Sequence[Sent]) -> list[Any]:
    """The read model's rows as pure functions make them of events in order, as JSON says them."""
    rows: dict[str, Any] = {}
    for id_, value in sent:
        envelope = CODEC.decode(value)
        key = id_ if projection.key is None else projection.key(envelope)
        if key is not None:
            rows[key] = projection.project(rows.get(key), envelope)
    told = json.loads(msgspec.json.Encoder(decimal_format="string").encode(list(rows.values())))
    return sorted(told, key=json.dumps)


async def write(fleet: TestedFleet, sent: Sequence[Sent]) -> None:
    """As a foreign producer does: straight onto the events topic."""
    topic, partitions = Topics(fleet.settings.topic_prefix).events("orders"), fleet.settings.partitions
    producer: Any = AIOKafkaProducer(bootstrap_servers=fleet.settings.brokers, enable_idempotence=True)
    await producer.start()
    try:
        acks = [
            await producer.send(topic, value, key=id_.encode(), partition=partition_of(id_, partitions))
            for id_, value in sent
        ]
        await asyncio.gather(*acks)
    finally:
        await producer.stop()


async def until_metric(url: str, name: str, wanted: float, *, at_least: bool = False) -> None:
    """Wait until the order projection counts so many."""
    found = -1.0
    try:
        async with asyncio.timeout(TIMEOUT_S):
            while found != wanted and not (at_least and found > wanted):
                await asyncio.sleep(0.05)
                found = await metric(url, name)
    except TimeoutError:
        raise AssertionError(f"{name} is {found}, not {wanted}") from None


async def metric(url: str, name: str) -> float:
    """A figure of the order projection."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as got:
        text = await got.text()
    found = re.search(rf'^eventfleet_{name}{{agent="projecting-orders"}} (\S+)$', text, re.MULTILINE)
    return float(found[1]) if found else 0.0


async def until_rows(url: str, projection: Projection[Any], wanted: list[Any]) -> None:
    """Wait until the view shows exactly these rows."""
    found: list[Any] = []
    try:
        async with asyncio.timeout(TIMEOUT_S):
            while found != wanted:
                await asyncio.sleep(0.05)
                found = sorted(await rows(url, projection.name), key=json.dumps)
    except TimeoutError:
        wrong = [one for one in found if one not in wanted][:3]
        raise AssertionError(f"{projection.name}: {len(found)} rows for {len(wanted)}; wrong: {wrong}") from None


async def rows(url: str, name: str) -> list[Any]:
    """Every row of a read model, page by page."""
    found: list[Any] = []
    after: dict[str, str] = {}
    async with aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"{url}/{name}", params=after) as got:
                page = await got.json()
            found += page["items"]
            if page["next"] is None:
                return found
            after = {"after": page["next"]}
