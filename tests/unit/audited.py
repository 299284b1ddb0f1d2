"""A healthy log to audit, made by the product's own agents on a simulated Kafka; and ways to corrupt it."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from app.audit.auditor import Audit, Auditor
from app.audit.records import Place, Seen, place_of, seen
from app.catalogue import CATALOGUE
from app.domain.customer import CUSTOMER, PromoteToVip, RegisterCustomer, VerifyUser
from app.domain.inventory import INVENTORY, StockProduct
from app.domain.order import ORDER, CancelOrder, ConfirmDelivery, CreateOrder, Item, ProcessPayment
from app.kernel import Command, Envelope, stream_id_of
from app.runtime.codec import Codec
from app.runtime.ports import TopicPartition
from tests.property.lives import PARTITIONS, SETTINGS, TOPICS, Town
from tests.property.test_fulfilment import BEGIN, TICKS

CODECS = {aggregate.category: Codec(aggregate.commands) for aggregate in (ORDER, INVENTORY, CUSTOMER)}
LATER = BEGIN + timedelta(minutes=10)


@dataclass(frozen=True)
class Raw:
    """One record as it stands in the log."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp: int = 0


@dataclass
class Log:
    """All records of a fleet. Every method that corrupts says what it did wrong by its name."""

    records: list[Raw] = field(default_factory=list)

    def audit(self, patience_over: bool = True) -> Audit:
        """The verdict, all patience being over."""
        auditor = Auditor()
        auditor.take(map(_seen, self.records))
        return auditor.audit(1.0 if patience_over else -1.0)

    def find(self, topic: str, wanted: Callable[[Any], bool] = lambda told: True) -> Raw:
        """The first record of the topic whose value, decoded, is as wanted."""
        return next(r for r in self.records if r.topic == topic and r.value and wanted(decoded(r)))

    def put(self, topic: str, value: Any, like: Raw, key: bytes | None = None) -> None:
        """Append a record, where another one of the topic lies."""
        raw = encoded(topic, value)
        self.records.append(Raw(topic, like.partition, 1_000_000 + len(self.records), key or like.key, raw))

    def change(self, record: Raw, change: Callable[[Any], object]) -> None:
        """Change what a record says, in place."""
        told = decoded(record)
        change(told)
        self.records[self.records.index(record)] = replace(record, value=encoded(record.topic, told))

    def drop(self, record: Raw) -> None:
        """A record that was lost."""
        self.records.remove(record)


def decoded(record: Raw) -> Any:
    """What a record says."""
    row = record.topic.endswith(".changelog")
    return msgspec.msgpack.decode(record.value or b"") if row else msgspec.json.decode(record.value or b"")


def encoded(topic: str, told: Any) -> bytes:
    """The other way round."""
    return msgspec.msgpack.encode(told) if topic.endswith(".changelog") else msgspec.json.encode(told)


def _seen(raw: Raw) -> Seen:
    place = place_of(raw.topic)
    assert isinstance(place, Place)
    return seen(place, raw, 0.5)


class Desk:
    """Sends commands to a town."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self.sent = 0

    def send(self, *commands: Command, repeat: bool = False, at: Any = BEGIN) -> None:
        """Send them; or the last id again."""
        for command in commands:
            self.sent += not repeat
            kinds: dict[str, Iterable[type[Command]]] = {a.category: a.commands for a in (ORDER, INVENTORY, CUSTOMER)}
            category = next(name for name, known in kinds.items() if type(command) in known)
            id_ = stream_id_of(command)
            envelope = Envelope(f"s{self.sent}", id_, at, command)
            self.town.send(TOPICS.commands(category), [(id_, CODECS[category].encode(envelope, "/desk"))])


def order(order_id: str, customer: str, price: str, *items: tuple[str, int], fulfil: bool = True) -> CreateOrder:
    """An order whose pieces all cost the same."""
    lines = tuple(Item(product, quantity, Decimal(price)) for product, quantity in items)
    return CreateOrder(order_id, customer, "Ann", "a@example.org", lines, fulfil=fulfil)


async def trade(desk: Desk) -> None:
    """A day of a shop: whatever can happen to an order does."""
    desk.send(StockProduct("p0", 100), StockProduct("p1", 3))
    for customer in ("vip", "new"):
        desk.send(RegisterCustomer(customer, "Ann", "a@example.org"), VerifyUser(customer))
    desk.send(PromoteToVip("vip", "loyal"), PromoteToVip("nobody", "?"))
    await desk.town.live()
    desk.send(order("paid", "vip", "600.25", ("p0", 1), ("p0", 1)), at=LATER)
    desk.send(order("short", "new", "1.00", ("p0", 1), ("p1", 9)), at=LATER)
    desk.send(order("declined", "new", "2.50", ("p1", 1)), at=LATER)
    desk.send(order("regretted", "vip", "2.50", ("p1", 1)), at=LATER)
    desk.send(order("forgotten", "new", "2.50", ("p1", 1)), at=LATER)
    desk.send(order("by-hand", "new", "2.50", ("p1", 1), fulfil=False), at=LATER)
    desk.send(order("by-hand", "new", "2.50", ("p1", 1), fulfil=False), repeat=True, at=LATER)
    await desk.town.live()
    desk.send(ProcessPayment("paid", "pay", Decimal("1200.50")), at=LATER)
    desk.send(ProcessPayment("declined", "pay", Decimal("2.50"), "no funds"), at=LATER)
    regretted = (ProcessPayment("regretted", "pay", Decimal("2.50")), CancelOrder("regretted", "changed my mind"))
    desk.send(*regretted, at=LATER)
    await desk.town.live()
    desk.send(ConfirmDelivery("paid"), order("waiting", "new", "2.50", ("p0", 2)))
    partition = TopicPartition(TOPICS.commands("orders"), 0)
    desk.town.cluster.append(partition, (b"broken", b"no command"))
    tell_time(desk.town, TICKS, LATER + timedelta(hours=1))
    for hours in (1, 2, 3):
        for window in CATALOGUE.windows:
            tell_time(desk.town, TOPICS.ticks(window.name), LATER + timedelta(hours=hours))
        await desk.town.live()
    desk.send(order("late", "new", "2.50", ("p1", 1), fulfil=False), at=LATER)
    desk.send(order("newest", "new", "2.50", ("p1", 1), fulfil=False), at=LATER + timedelta(hours=4))
    await desk.town.live()


def tell_time(town: Town, topic: str, now: datetime) -> None:
    """A tick in every partition."""
    for number in range(PARTITIONS):
        town.cluster.append(TopicPartition(topic, number), (None, msgspec.json.encode({"time": now})))


@functools.cache
def _healthy() -> tuple[Raw, ...]:
    town = Town(CATALOGUE.agents(SETTINGS), CATALOGUE.topics(SETTINGS))
    asyncio.run(trade(Desk(town)))
    return tuple(records_of(town))


def records_of(town: Town) -> Iterable[Raw]:
    """Every record that an auditor reads."""
    for topic in CATALOGUE.topics(SETTINGS):
        if place_of(topic.name) is None:
            continue
        for number in range(PARTITIONS):
            for r in town.cluster.records(TopicPartition(topic.name, number)):
                yield Raw(topic.name, number, r.offset, r.key, r.value, tuple(r.headers))


def healthy() -> Log:
    """A log in which nothing is wrong, to be corrupted."""
    return Log(list(_healthy()))
