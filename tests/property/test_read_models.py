"""Read models on the engine, whatever breaks: what they hold is what a recount of the event log comes to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from app.catalogue import CATALOGUE
from app.domain.order import CancelOrder, CreateOrder, Item, OrderCommand, ProcessPayment, RequestRefund
from app.kernel import Envelope
from app.projections.customer_orders import CUSTOMER_ORDERS
from app.projections.customers import CUSTOMERS
from app.projections.orders_by_day import ORDERS_BY_DAY, DayRow, merge
from app.runtime.codec import Codec
from app.runtime.ports import TopicPartition
from tables.read_models import list_key, place_in, read_model_of
from tests.property.lives import PARTITIONS, SETTINGS, TOPICS, Lived, Town
from tests.recounted import Recounted, recounted

BEGIN = datetime(2026, 1, 1, 12, tzinfo=UTC)
ONLY_READS = replace(CATALOGUE, chains=(), filters=())

Wish = tuple[str, int, int, str]
"""A customer, the day, cents, and what becomes of the order."""

WISHES = st.lists(
    st.tuples(
        st.sampled_from(["c1", "c2", "c3"]),
        st.integers(0, 3),
        st.integers(1, 10_000),
        st.sampled_from(["is left", "is paid", "is cancelled", "is refunded"]),
    ),
    min_size=1,
    max_size=8,
)
DEATHS = st.lists(st.tuples(st.integers(1, 60), st.booleans(), st.integers(1, 5)), max_size=5)


def town() -> Town:
    return Town(ONLY_READS.agents(SETTINGS), ONLY_READS.topics(SETTINGS))


def wish(made: Town, wishes: Sequence[Wish], name: str = "o") -> None:
    """Send the commands of each order's life."""
    codec = Codec(CATALOGUE.aggregates[0].commands)
    for number, (customer, day, cents, fate) in enumerate(wishes):
        order_id, price = f"{name}{number}", Decimal(cents) / 100
        life: list[OrderCommand] = [
            CreateOrder(order_id, customer, "Ann", "a@example.org", (Item("p", 1, price),)),
            *([ProcessPayment(order_id, "pay", price)] if fate in ("is paid", "is refunded") else []),
            *([CancelOrder(order_id, "no")] if fate in ("is cancelled", "is refunded") else []),
            *([RequestRefund(order_id)] if fate == "is refunded" else []),
        ]
        for step, command in enumerate(life):
            time = BEGIN + timedelta(days=day, seconds=number, minutes=step)
            envelope = Envelope(f"{order_id}-{step}", order_id, time, command)
            made.send(TOPICS.commands("orders"), [(order_id, codec.encode(envelope, "/t"))])


def recounted_of(found: Lived) -> Recounted:
    """What the event log comes to."""
    records = [r for number in range(PARTITIONS) for r in found.records[TopicPartition("orders.events", number)]]
    return recounted(json.loads(value or b"") for _, value in records)


def projected(found: Lived) -> Recounted:
    """What the read models hold."""
    days: dict[str, DayRow] = {}
    held = Recounted()
    for number in range(PARTITIONS):
        for row in rows_of(found, ORDERS_BY_DAY, number).values():
            days[row.day] = merge(days[row.day], row) if row.day in days else row
        for key, row in rows_of(found, CUSTOMERS, number).items():
            assert key.decode() not in held.customers, "a customer has rows in two partitions"
            held.customers[row.customer_id] = row.orders, row.spent, row.last_order_id
        for key, row in sorted(rows_of(found, CUSTOMER_ORDERS, number).items(), reverse=True):
            customer = next(c for c in ("c1", "c2", "c3") if key.startswith(list_key(c)))
            assert place_in(key, customer)[1] == row.order_id
            held.lists.setdefault(customer, []).append((row.order_id, row.status, row.total))
    held.days = {day: (row.count, row.total) for day, row in days.items()}
    return held


def rows_of(found: Lived, projection: Any, partition: int) -> dict[bytes, Any]:
    table = read_model_of(projection)
    rows = found.rows[f"projecting-{projection.name}", partition]
    return {
        key[len(table.prefix) :]: table.decode(raw).row for key, raw in rows.items() if key.startswith(table.prefix)
    }


@settings(max_examples=40, deadline=None)
@given(WISHES, DEATHS)
def test_whoever_dies_rows_are_what_the_log_comes_to(
    wishes: Sequence[Wish], deaths: list[tuple[int, bool, int]]
) -> None:
    async def run() -> Lived:
        made = town()
        wish(made, wishes)
        for dies_at, disk_lost, batch in deaths:
            await made.live(dies_at=dies_at, disk_lost=disk_lost, batch=batch)
        return await made.lived()

    found = asyncio.run(run())
    assert projected(found) == recounted_of(found)


async def test_a_death_at_every_single_step() -> None:
    wishes = [("c1", 0, 700, "is refunded"), ("c2", 0, 150, "is paid"), ("c1", 1, 20, "is cancelled")]
    last = 0
    for dies_at in range(1, 400):
        made = town()
        wish(made, wishes)
        effects = await made.live(dies_at=dies_at, batch=2, disk_lost=True)
        found = await made.lived()
        assert projected(found) == recounted_of(found), dies_at
        assert len(projected(found).lists["c1"]) == 2
        last = effects
        if effects < dies_at:
            break
    assert last > 30, "the lives were too short to prove anything"


@settings(max_examples=20, deadline=None)
@given(
    WISHES,
    st.lists(st.tuples(st.sampled_from(["start", "produce", "commit"]), st.booleans(), st.integers(0, 6)), max_size=3),
    st.integers(1, 5),
)
def test_broker_faults_double_and_lose_nothing(
    wishes: Sequence[Wish], faults: list[tuple[str, bool, int]], batch: int
) -> None:
    async def run() -> Lived:
        made = town()
        wish(made, wishes)
        for step, lost_ack, after in faults:
            made.cluster.fail_next(step, lost_ack=lost_ack, after=after)
        await made.live(batch=batch)
        return await made.lived()

    found = asyncio.run(run())
    assert projected(found) == recounted_of(found)
