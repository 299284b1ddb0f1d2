"""Fulfilment on the engine: orders, stock and payments of a whole town, whoever dies meanwhile.

However it goes, in the end every order is shipped, or cancelled with nothing left set aside and what was paid refunded.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.catalogue import CATALOGUE
from app.chains.fulfilment import FULFILMENT, STOCK_DUE
from app.domain.inventory import INVENTORY, ReserveStock, StockProduct
from app.domain.order import ORDER, PAY_WITHIN_S, CancelOrder, CreateOrder, Item, ProcessPayment
from app.kernel import Command, Envelope, stream_id_of
from app.runtime.codec import Codec
from app.runtime.ports import TopicPartition
from app.runtime.table import Table
from tables.chains import STANDINGS, TIMERS, WAITING, Instance, instances_of
from tests.property.lives import PARTITIONS, SETTINGS, TOPICS, Town

R = TypeVar("R")

CODECS = {aggregate.category: Codec(aggregate.commands) for aggregate in (ORDER, INVENTORY)}
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
TICKS = TOPICS.ticks(FULFILMENT.name)
PRODUCTS = ("p0", "p1", "p2")
INSTANCES = instances_of(FULFILMENT)
LIVES_MAX = 60
PAY_DUE = timedelta(seconds=PAY_WITHIN_S)


@dataclass
class Shop:
    """A town with an order desk, shelves and a gateway."""

    town: Town = field(default_factory=lambda: Town(CATALOGUE.agents(SETTINGS), CATALOGUE.topics(SETTINGS)))
    sent: int = 0

    def send(self, command: Command, at: datetime = BEGIN) -> None:
        """Send a command to its aggregate."""
        category = "inventory" if type(command) in INVENTORY.commands else "orders"
        self.sent += 1
        id_ = stream_id_of(command)
        envelope = Envelope(f"s{self.sent}", id_, at, command)
        self.town.send(TOPICS.commands(category), [(id_, CODECS[category].encode(envelope, "/shop"))])

    def order(self, order_id: str, *items: tuple[str, int]) -> None:
        """Place an order that the fleet is to fulfil; every piece costs 1."""
        lines = tuple(Item(product, quantity, Decimal(1)) for product, quantity in items)
        self.send(CreateOrder(order_id, "c", "Ann", "a@example.org", lines, fulfil=True))

    def tick(self, at: datetime) -> None:
        """Let the time be told."""
        for number in range(PARTITIONS):
            value = json.dumps({"time": at.isoformat()}).encode()
            self.town.cluster.append(TopicPartition(TICKS, number), (None, value))

    def events(self, category: str) -> list[dict[str, Any]]:
        """All events of a category, partition by partition."""
        partitions = [TopicPartition(TOPICS.events(category), number) for number in range(PARTITIONS)]
        return [json.loads(r.value or b"") for p in partitions for r in self.town.cluster.records(p)]

    def statuses(self) -> dict[str, list[str]]:
        """The types of each order's events, without their prefixes."""
        found: dict[str, list[str]] = {}
        for event in self.events("orders"):
            found.setdefault(event["subject"], []).append(event["type"].split(".")[1])
        return found

    def instances(self) -> dict[str, Instance[Any]]:
        """The chain's instances."""
        return {key.decode(): row for key, row in self.rows(INSTANCES).items()}

    def timers(self) -> int:
        """How many timers are set."""
        return len(self.rows(TIMERS))

    def standings(self) -> dict[str, int]:
        """How many instances wait for what, over all partitions."""
        found: Counter[str] = Counter()
        for number in range(PARTITIONS):
            found.update({key.decode(): count for key, count in self.rows(STANDINGS, [number]).items()})
        return dict(found)

    def rows(self, table: Table[R], partitions: Iterable[int] = range(PARTITIONS)) -> dict[bytes, R]:
        """All rows of one of the chain's tables."""
        found: dict[bytes, R] = {}
        for number in partitions:
            store = self.town.stores("chaining-fulfilment", number)
            found |= {key[len(table.prefix) :]: table.decode(raw) for key, raw in store.scan(table.prefix)}
        self.town.stores.crash()
        return found


def check_stock(shop: Shop) -> Counter[str]:
    """Stock is never below zero, equal to its history; what is still set aside, by order."""
    available: Counter[str] = Counter()
    aside: Counter[str] = Counter()
    for event in shop.events("inventory"):
        product, data = event["subject"], event["data"]
        match event["type"]:
            case "inventory.stocked.v1":
                available[product] += data["quantity"]
            case "inventory.reserved.v1":
                available[product] -= data["quantity"]
                aside[data["order_id"]] += data["quantity"]
            case "inventory.released.v1":
                available[product] += data["quantity"]
                aside[data["order_id"]] -= data["quantity"]
        assert available[product] == data["available"] >= 0
    return +aside


async def test_an_order_is_reserved_billed_paid_and_shipped() -> None:
    shop = Shop()
    shop.send(StockProduct("p0", 5))
    shop.order("o1", ("p0", 1), ("p0", 2))
    await shop.town.live()
    assert shop.statuses()["o1"] == ["created", "inventory-reserved", "payment-requested"]
    waiting = shop.instances()["o1"]
    assert (waiting.waiting_for, waiting.finished) == ("the customer's payment", False)
    assert shop.timers() == 1
    shop.send(ProcessPayment("o1", "pay", Decimal(3)))
    await shop.town.live()
    assert shop.statuses()["o1"][3:] == ["payment-processed", "shipped"]
    assert shop.instances()["o1"].finished
    assert shop.timers() == 0
    assert check_stock(shop) == {"o1": 3}


async def test_an_order_that_is_paid_before_its_stock_is_reserved_is_shipped() -> None:
    shop = Shop()
    shop.send(StockProduct("p0", 5))
    shop.order("o1", ("p0", 2))
    shop.send(ProcessPayment("o1", "pay", Decimal(2)))
    await shop.town.live()
    assert shop.statuses()["o1"] == ["created", "payment-processed", "inventory-reserved", "shipped"]
    assert (check_stock(shop), shop.timers(), shop.instances()["o1"].finished) == ({"o1": 2}, 0, True)


async def test_an_order_that_is_paid_early_and_cannot_be_delivered_is_refunded() -> None:
    shop = Shop()
    shop.order("o1", ("p0", 2))
    shop.send(ProcessPayment("o1", "pay", Decimal(2)))
    await shop.town.live()
    assert shop.statuses()["o1"] == ["created", "payment-processed", "cancelled", "refund-requested"]
    assert (check_stock(shop), shop.timers(), shop.instances()["o1"].finished) == ({}, 0, True)


async def test_one_item_out_of_stock_releases_the_others_and_cancels() -> None:
    shop = Shop()
    shop.send(StockProduct("p0", 5))
    shop.send(StockProduct("p1", 1))
    shop.order("o1", ("p0", 1), ("p1", 2), ("p2", 1))
    await shop.town.live()
    assert shop.statuses()["o1"] == ["created", "cancelled"]
    reason = next(e["data"]["reason"] for e in shop.events("orders") if e["type"] == "order.cancelled.v1")
    assert reason.startswith("out of stock: p")
    assert check_stock(shop) == {}
    assert shop.instances()["o1"].finished


async def test_a_declined_payment_cancels() -> None:
    shop = Shop()
    shop.send(StockProduct("p0", 5))
    shop.order("o1", ("p0", 1))
    await shop.town.live()
    shop.send(ProcessPayment("o1", "pay", Decimal(1), "insufficient funds"))
    await shop.town.live()
    assert shop.statuses()["o1"][3:] == ["payment-failed", "cancelled"]
    assert (check_stock(shop), shop.timers()) == ({}, 0)


async def test_a_payment_that_does_not_come_in_time_cancels_once() -> None:
    shop = Shop()
    shop.send(StockProduct("p0", 5))
    shop.order("o1", ("p0", 1))
    await shop.town.live()
    shop.tick(BEGIN + PAY_DUE - timedelta(seconds=1))
    await shop.town.live(disk_lost=True)
    assert "cancelled" not in shop.statuses()["o1"]
    for _ in range(3):
        shop.tick(BEGIN + PAY_DUE)
    await shop.town.live()
    assert shop.statuses()["o1"][3:] == ["cancelled"]
    assert (check_stock(shop), shop.timers()) == ({}, 0)


async def test_an_order_cancelled_after_payment_is_refunded() -> None:
    shop = Shop()
    shop.send(StockProduct("p0", 5))
    shop.order("o1", ("p0", 2))
    await shop.town.live()
    shop.send(ProcessPayment("o1", "pay", Decimal(2)))
    shop.send(CancelOrder("o1", "changed my mind"))
    await shop.town.live()
    assert shop.statuses()["o1"][3:] == ["payment-processed", "cancelled", "refund-requested"]
    assert check_stock(shop) == {}


async def test_an_order_that_must_be_paid_sooner_is_called_off_sooner() -> None:
    shop = Shop()
    shop.send(StockProduct("p0", 5))
    shop.send(CreateOrder("o1", "c", "Ann", "a@e.org", (Item("p0", 1, Decimal(1)),), fulfil=True, pay_within_s=3))
    await shop.town.live()
    shop.tick(BEGIN + timedelta(seconds=2))
    await shop.town.live()
    assert "cancelled" not in shop.statuses()["o1"]
    shop.tick(BEGIN + timedelta(seconds=3))
    await shop.town.live()
    assert shop.statuses()["o1"][3:] == ["cancelled"]


async def test_an_order_whose_stock_does_not_answer_is_called_off_and_late_answers_are_released() -> None:
    shop = Shop()
    everybody = shop.town.agents
    shop.town.agents = [agent for agent in everybody if agent.name != "deciding-inventory"]
    shop.send(StockProduct("p0", 5))
    shop.order("o1", ("p0", 1), ("p1", 1))
    await shop.town.live()
    assert set(shop.instances()["o1"].timers) == {"guard"}
    shop.tick(BEGIN + STOCK_DUE)
    await shop.town.live()
    assert shop.statuses()["o1"] == ["created", "cancelled"]
    assert not shop.instances()["o1"].finished
    shop.tick(BEGIN + STOCK_DUE * 3)
    await shop.town.live()
    assert shop.instances()["o1"].finished
    shop.town.agents = everybody
    await shop.town.live()
    assert {event["type"].split(".")[1] for event in shop.events("inventory")} >= {"reserved", "released"}
    assert (check_stock(shop), shop.timers()) == ({}, 0)
    assert shop.instances()["o1"].finished


async def test_standings_count_what_instances_wait_for() -> None:
    shop = Shop()
    shop.send(StockProduct("p0", 5))
    for number, quantity in enumerate((1, 1, 9)):
        shop.order(f"o{number}", ("p0", quantity))
    await shop.town.live()
    assert shop.standings() == {"the customer's payment": 2, "finished": 1}
    shop.send(ProcessPayment("o0", "pay", Decimal(1)))
    await shop.town.live(disk_lost=True)
    assert shop.standings() == {"the customer's payment": 1, "finished": 2}
    assert list(shop.rows(WAITING).values()) == ["the customer's payment"]
    shop.tick(BEGIN + PAY_DUE)
    await shop.town.live()
    assert shop.standings() == {"finished": 3}
    assert shop.rows(WAITING) == {}


async def test_orders_that_their_senders_fulfil_are_left_alone() -> None:
    shop = Shop()
    shop.send(CreateOrder("o1", "c", "Ann", "a@example.org", (Item("p0", 1, Decimal(1)),)))
    await shop.town.live()
    assert shop.statuses()["o1"] == ["created"]
    assert (shop.events("inventory"), shop.instances()) == ([], {})


async def test_what_a_chain_sends_has_ids_that_a_replay_repeats() -> None:
    """Commands sent by another life for the same event are the same commands."""
    ids = []
    for _ in range(2):
        shop = Shop()
        shop.order("o1", ("p0", 1))
        await shop.town.live()
        partitions = [TopicPartition(TOPICS.commands("inventory"), n) for n in range(PARTITIONS)]
        sent = [json.loads(r.value or b"") for p in partitions for r in shop.town.cluster.records(p)]
        assert [(one["type"], one["causationid"]) for one in sent] == [(ReserveStock.wire_name, "s1.0")]
        ids.append([one["id"] for one in sent])
    assert ids[0] == ids[1]


Wish = tuple[list[tuple[str, int]], str]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(st.sampled_from(PRODUCTS), st.integers(1, 3)), min_size=1, max_size=3),
            st.sampled_from(["pays", "declines", "forgets", "cancels early", "cancels late"]),
        ),
        min_size=1,
        max_size=6,
    ),
    st.lists(st.tuples(st.integers(1, 60), st.booleans(), st.integers(1, 4)), max_size=6),
)
def test_whoever_dies_every_order_ends_well(wishes: list[Wish], deaths: list[tuple[int, bool, int]]) -> None:
    asyncio.run(_trade(wishes, deaths))


async def _trade(wishes: Sequence[Wish], deaths: list[tuple[int, bool, int]]) -> None:
    shop, deaths = Shop(), list(deaths)

    async def live() -> None:
        if deaths:
            dies_at, disk_lost, batch = deaths.pop()
            await shop.town.live(dies_at=dies_at, disk_lost=disk_lost, batch=batch)
        await shop.town.live()

    for product in PRODUCTS:
        shop.send(StockProduct(product, 4))
    for number, (items, habit) in enumerate(wishes):
        shop.order(f"o{number}", *items)
        if habit == "cancels early":
            shop.send(CancelOrder(f"o{number}", "early"))
    await live()
    for number, (items, habit) in enumerate(wishes):
        total = Decimal(sum(quantity for _, quantity in items))
        if habit in ("pays", "declines", "cancels late"):
            declined = "no funds" if habit == "declines" else None
            shop.send(ProcessPayment(f"o{number}", "pay", total, declined))
        if habit == "cancels late":
            shop.send(CancelOrder(f"o{number}", "late"))
    await live()
    for _ in range(2):
        shop.tick(BEGIN + PAY_DUE * 2)
        await live()
    _check_ended_well(shop)
    _check_audit(shop)


def _check_audit(shop: Shop) -> None:
    """The product's own auditor finds nothing either, whoever died."""
    from tests.unit.audited import Log, records_of

    audit = Log(list(records_of(shop.town))).audit()
    assert audit.ok, [verdict for verdict in audit.verdicts if verdict.violations]


def _check_ended_well(shop: Shop) -> None:
    aside = check_stock(shop)
    for order_id, types in shop.statuses().items():
        assert len(types) == len(set(types)), f"{order_id}: {types}"
        assert ("shipped" in types) != ("cancelled" in types), f"{order_id}: {types}"
        assert (order_id in aside) == ("shipped" in types), f"{order_id}: {types}, {aside[order_id]} pieces set aside"
        refunded = "cancelled" in types and "payment-processed" in types
        assert ("refund-requested" in types) == refunded, f"{order_id}: {types}"
    assert all(instance.finished for instance in shop.instances().values())
    assert shop.timers() == 0
