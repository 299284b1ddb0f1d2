"""Filters on the engine: each picked event is told of once, whoever dies meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from app.catalogue import CATALOGUE
from app.domain.customer import CUSTOMER, PromoteToVip, RegisterCustomer, VerifyUser
from app.domain.order import ORDER, CreateOrder, Item
from app.kernel import Command, Envelope, stream_id_of
from app.runtime.codec import Codec
from app.runtime.ports import TopicPartition
from tests.property.lives import PARTITIONS, SETTINGS, TOPICS, Town

CODECS = {aggregate.category: Codec(aggregate.commands) for aggregate in (ORDER, CUSTOMER)}
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def shop() -> Town:
    return Town(CATALOGUE.agents(SETTINGS), CATALOGUE.topics(SETTINGS))


def send(town: Town, command: Command, id_: str) -> None:
    category = "customers" if type(command) in CUSTOMER.commands else "orders"
    key = stream_id_of(command)
    town.send(TOPICS.commands(category), [(key, CODECS[category].encode(Envelope(id_, key, NOW, command), "/t"))])


def order(order_id: str, customer: str, total: int) -> CreateOrder:
    return CreateOrder(order_id, customer, "Ann", "a@example.org", (Item("p", 1, Decimal(total)),))


def promote(town: Town, customer: str) -> None:
    send(town, RegisterCustomer(customer, "Ann", "a@example.org"), f"r-{customer}")
    send(town, VerifyUser(customer), f"v-{customer}")
    send(town, PromoteToVip(customer, "loyal"), f"p-{customer}")


def alerts(town: Town) -> list[tuple[str, str]]:
    """(filter, order) of each alert, sorted."""
    partitions = [TopicPartition(TOPICS.alerts, number) for number in range(PARTITIONS)]
    found = [json.loads(r.value or b"") for p in partitions for r in town.cluster.records(p)]
    assert len({alert["id"] for alert in found}) == len(found)
    return sorted((alert["data"]["filter"], alert["data"]["stream_id"]) for alert in found)


async def test_orders_above_a_thousand_are_told_of() -> None:
    town = shop()
    for number, total in enumerate((999, 1000, 1001, 5000)):
        send(town, order(f"o{number}", "c", total), f"s{number}")
    await town.live()
    assert alerts(town) == [("high-value", "o2"), ("high-value", "o3")]


async def test_orders_of_very_important_customers_are_told_of() -> None:
    town = shop()
    send(town, order("before", "c1", 1), "s1")
    await town.live()
    promote(town, "c1")
    await town.live()
    send(town, order("after", "c1", 1), "s2")
    send(town, order("other", "c2", 1), "s3")
    await town.live(disk_lost=True)
    assert alerts(town) == [("vip", "after")]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["c1", "c2", "c3"]), st.sampled_from([10, 2000])), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(1, 60), st.booleans()), max_size=4),
)
def test_whoever_dies_each_is_told_of_once(wishes: Sequence[tuple[str, int]], deaths: list[tuple[int, bool]]) -> None:
    async def run() -> Town:
        town = shop()
        promote(town, "c1")
        await town.live()
        for number, (customer, total) in enumerate(wishes):
            send(town, order(f"o{number}", customer, total), f"s{number}")
        for dies_at, disk_lost in deaths:
            await town.live(dies_at=dies_at, disk_lost=disk_lost, batch=2)
        await town.live()
        return town

    wanted = [("high-value", f"o{n}") for n, (_, total) in enumerate(wishes) if total > 1000]
    wanted += [("vip", f"o{n}") for n, (customer, _) in enumerate(wishes) if customer == "c1"]
    assert alerts(asyncio.run(run())) == sorted(wanted)
