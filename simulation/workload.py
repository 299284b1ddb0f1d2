"""What clients send: orders and what becomes of them, customers, stock; repeated, shuffled, and sometimes garbage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random

from app.domain.customer import CUSTOMER, PromoteToVip, RegisterCustomer, VerifyUser
from app.domain.inventory import INVENTORY, StockProduct
from app.domain.order import (
    ORDER,
    CancelOrder,
    ConfirmDelivery,
    CreateOrder,
    Item,
    OrderCreated,
    OrderShipped,
    PaymentProcessed,
    ProcessPayment,
    ShipmentDelivered,
    ShipOrder,
)
from app.kernel import Command, Envelope, Event, stream_id_of
from app.runtime.codec import Codec
from app.runtime.simulated.clock import EPOCH_MS
from simulation.purse import PURSE, MoveCoins
from simulation.witnesses import TALLY_IN

BEGIN = datetime.fromtimestamp(EPOCH_MS / 1000, UTC)
AGGREGATES = (ORDER, INVENTORY, CUSTOMER, PURSE)
CODECS = {aggregate.category: Codec(aggregate.commands) for aggregate in AGGREGATES}
CATEGORY: dict[type[Command], str] = {
    kind: aggregate.category for aggregate in AGGREGATES for kind in aggregate.commands
}
EVENTS = Codec(ORDER.events)
MIRRORED = "mirrored-"
"""How the ids of events begin that no decider of ours has decided."""
GARBAGE = (b"", b"{", b"\xff\xfe", b'{"specversion":"1.0"}', b"null")


@dataclass(frozen=True)
class Sent:
    """One record that a client sends. `topic` is a commands topic by its category, or a topic's name."""

    at_s: float
    topic: str
    key: bytes
    value: bytes
    about: str
    astray: bool = False
    """To a partition that is not the key's."""

    def __str__(self) -> str:
        return f"{self.at_s:7.3f} s  {self.about}"


class Clients:
    """Draws what they send."""

    def __init__(self, random: Random, *, shop: bool, end_s: float) -> None:
        self._random = random
        self._shop = shop
        self._end_s = end_s
        self._sent: list[Sent] = []
        self._number = 0

    def draw(self, lives: int) -> list[Sent]:
        """Everything that is sent, in the order of its times."""
        random = self._random
        if self._shop:
            for product in ("p0", "p1"):
                self._command(0.0, StockProduct(product, random.randint(1, 6)))
        else:
            self._purses(random.randint(0, 8))
        for number in range(lives):
            at_s = random.uniform(0.0, self._end_s * 0.8)
            if self._shop and random.random() < 0.3:
                self._customer(at_s, f"c{random.randrange(3)}")
            else:
                self._order(at_s, f"o{number}")
        for _ in range(random.randint(4, 20)):
            self._tally(random.uniform(0.0, self._end_s))
        if random.random() < 0.4:
            self._garbage()
        self._repeat()
        for number in range(random.randrange(3)):
            self._mirror(f"x{number}")
        return sorted(self._sent, key=lambda sent: sent.at_s)

    def _order(self, at_s: float, order_id: str) -> None:
        random = self._random
        fulfil = self._shop and random.random() < 0.6
        items = tuple(
            Item(f"p{random.randrange(3)}", random.randint(1, 3), Decimal(random.choice((1, 2, 900))))
            for _ in range(random.randint(1, 2))
        )
        total = sum((item.price * item.quantity for item in items), Decimal(0))
        create = CreateOrder(order_id, f"c{random.randrange(3)}", "Ann", "a@example.org", items, fulfil)
        wishes: list[Command] = [create]
        habit = random.randrange(6)
        if habit != 0:
            declined = "no funds" if habit == 1 else None
            wishes.append(ProcessPayment(order_id, "pay", total if habit != 2 else total + 1, declined))
        if habit in (3, 4) and not fulfil:
            wishes += [ShipOrder(order_id, "t"), ConfirmDelivery(order_id)]
        if random.random() < 0.3:
            wishes.append(CancelOrder(order_id, "no"))
        if random.random() < 0.3:
            random.shuffle(wishes)
        for number, wish in enumerate(wishes):
            version = random.choice((number, number, number + 1, 0)) if random.random() < 0.3 else None
            self._command(at_s, wish, version)
            at_s += random.choice((0.0, 0.01, 0.5)) * random.random() * 4

    def _purses(self, number: int) -> None:
        random = self._random
        for _ in range(number):
            moves = tuple(random.randint(-2, 3) for _ in range(random.randrange(4)))
            version = random.choice((None, None, None, 0, 1, 2))
            self._command(random.uniform(0.0, self._end_s * 0.8), MoveCoins(f"w{random.randrange(2)}", moves), version)

    def _customer(self, at_s: float, customer_id: str) -> None:
        wishes = (RegisterCustomer(customer_id, "Ann", "a@b.example"), VerifyUser(customer_id))
        for wish in (*wishes, PromoteToVip(customer_id, "loyal")):
            self._command(at_s, wish)
            at_s += 0.05

    def _command(self, at_s: float, command: Command, version: int | None = None) -> None:
        self._number += 1
        category, key = CATEGORY[type(command)], stream_id_of(command)
        id_ = f"s{self._number}"
        envelope = Envelope(id_, key, BEGIN + timedelta(seconds=at_s), command, version)
        value = CODECS[category].encode(envelope, "/simulation")
        about = f"{type(command).__name__} {key} (id {id_}{'' if version is None else f', expects version {version}'})"
        self._sent.append(Sent(round(at_s, 3), f"{category}.commands", key.encode(), value, about))

    def _tally(self, at_s: float) -> None:
        key = self._random.choice("abcd")
        value = b"!" if self._random.random() < 0.05 else b"x" * self._random.randrange(3)
        self._sent.append(Sent(round(at_s, 3), TALLY_IN, key.encode(), value, f"tally {key} {value!r}"))

    def _garbage(self) -> None:
        at_s, value = round(self._random.uniform(0.0, self._end_s), 3), self._random.choice(GARBAGE)
        self._sent.append(Sent(at_s, "orders.commands", b"o0", value, f"garbage {value!r}"))
        good = self._random.choice([sent for sent in self._sent if sent.topic == "orders.commands"])
        if self._random.random() < 0.5:
            self._sent.append(
                Sent(at_s, good.topic, good.key, good.value, f"astray: {good.about}", astray=True),
            )

    def _mirror(self, order_id: str) -> None:
        """Another system writes an order's events itself: repeated and in disorder, as an at-least-once mirror does."""
        random = self._random
        total = Decimal(random.choice((5, 5_000)))
        events: list[Event] = [
            OrderCreated(order_id, "c0", "Ann", "a@example.org", (Item("p0", 1, total),), total),
            PaymentProcessed(order_id, "c0", "pay", total),
            OrderShipped(order_id, "c0", "t"),
            ShipmentDelivered(order_id, "c0", "t"),
        ]
        versions = list(range(1, random.randint(1, len(events)) + 1))
        versions += random.choices(versions, k=random.randrange(3))
        if random.random() < 0.7:
            random.shuffle(versions)
        at_s = random.uniform(0.0, self._end_s * 0.8)
        for version in versions:
            id_ = f"{MIRRORED}{order_id}.{version}"
            envelope = Envelope(id_, order_id, BEGIN + timedelta(seconds=version), events[version - 1], version)
            value, about = EVENTS.encode(envelope, "/mirror"), f"mirrored: version {version} of {order_id}"
            self._sent.append(Sent(round(at_s, 3), "orders.events", order_id.encode(), value, about))
            at_s += random.choice((0.0, 0.3)) * random.random()

    def _repeat(self) -> None:
        """Clients that got no answer send again: the same command, at once or much later."""
        commands: Sequence[Sent] = [sent for sent in self._sent if sent.topic.endswith(".commands") and not sent.astray]
        for sent in commands:
            if self._random.random() < 0.2:
                at_s = round(sent.at_s + self._random.choice((0.0, 0.1, 3.0)) * self._random.random() * 2, 3)
                self._sent.append(Sent(at_s, sent.topic, sent.key, sent.value, f"again: {sent.about}"))
