"""Customers: the life of each order, scripted in advance from a seed, with the mistakes that people and programs make.

Because commands of one order are decided in the order in which they are sent, every outcome is known beforehand.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from app.domain.order import CancelOrder, ConfirmDelivery, CreateOrder, Item, ProcessPayment, ShipOrder, total_of
from app.kernel import Command

FIRST_NAMES = ("Ada", "Grace", "Edsger", "Barbara", "Leslie", "Frances", "Donald", "Radia", "Tony", "Katherine")
PRODUCTS = 500
CUSTOMERS = 2_000


@dataclass(frozen=True)
class Step:
    """One command of a script. `version` is the order's after it; `rejected` the reason that must come back, if any.

    A `repeat` has the id of an earlier step: it must be answered like that one and change nothing.
    """

    command_id: str
    command: Command
    version: int
    rejected: str | None = None
    expected_version: int | None = None
    repeat: bool = False

    @property
    def order_id(self) -> str:
        """The order's id."""
        order_id: str = self.command.order_id  # type: ignore[attr-defined]
        return order_id


@dataclass(frozen=True)
class Habits:
    """How often something unusual happens, as shares of all orders."""

    cancelled: float = 0.08
    declined: float = 0.08
    wrong_amount: float = 0.05
    shipped_unpaid: float = 0.05
    created_twice: float = 0.04
    stale_version: float = 0.04
    repeated: float = 0.04
    abandoned: float = 0.03


class _Script:
    """Writes one order's steps down."""

    def __init__(self, order_id: str) -> None:
        self.order_id = order_id
        self.version = 0
        self.steps: list[Step] = []

    def accepted(self, command: Command) -> None:
        self.version += 1
        self.steps.append(Step(self._id(), command, self.version))

    def rejected(self, command: Command, reason: str, expected_version: int | None = None) -> None:
        self.steps.append(Step(self._id(), command, self.version, reason, expected_version))

    def repeat(self) -> None:
        last = self.steps[-1]
        self.steps.append(Step(last.command_id, last.command, last.version, last.rejected, repeat=True))

    def _id(self) -> str:
        return f"{self.order_id}:{len(self.steps)}"


def script(order_id: str, lots: random.Random, habits: Habits) -> list[Step]:
    """The steps of one order's life."""
    s = _Script(order_id)
    create = _create(order_id, lots)
    total = total_of(create.items)
    s.accepted(create)
    if lots.random() < habits.created_twice:
        s.rejected(create, "order_already_created")
    if lots.random() < habits.repeated:
        s.repeat()
    if lots.random() < habits.abandoned:
        return s.steps
    if lots.random() < habits.shipped_unpaid:
        s.rejected(ShipOrder(order_id, f"tracking-{order_id}"), "order_not_paid")
    if lots.random() < habits.wrong_amount:
        s.rejected(ProcessPayment(order_id, f"payment-{order_id}-0", total + 1), "payment_amount_mismatch")
    if lots.random() < habits.declined:
        s.accepted(ProcessPayment(order_id, f"payment-{order_id}-1", total, "insufficient funds"))
    if lots.random() < habits.cancelled / 2:
        s.accepted(CancelOrder(order_id, "changed my mind"))
        return s.steps
    s.accepted(ProcessPayment(order_id, f"payment-{order_id}", total))
    if lots.random() < habits.stale_version:
        s.rejected(ShipOrder(order_id, "too-late"), "version_conflict", expected_version=s.version - 1)
    if lots.random() < habits.cancelled / 2:
        s.accepted(CancelOrder(order_id, "found it cheaper"))
        return s.steps
    s.accepted(ShipOrder(order_id, f"tracking-{order_id}"))
    s.accepted(ConfirmDelivery(order_id))
    return s.steps


def _create(order_id: str, lots: random.Random) -> CreateOrder:
    customer = lots.randrange(CUSTOMERS)
    name = FIRST_NAMES[customer % len(FIRST_NAMES)]
    items = tuple(
        Item(f"product-{lots.randrange(PRODUCTS)}", lots.randint(1, 4), Decimal(lots.randint(99, 29_999)) / 100)
        for _ in range(lots.randint(1, 4))
    )
    return CreateOrder(order_id, f"customer-{customer}", f"{name} No. {customer}", f"c{customer}@example.org", items)


def population(run: str, orders: int, seed: int, habits: Habits = Habits()) -> Iterator[list[Step]]:
    """The scripts of `orders` orders, whose ids begin with the run's name."""
    lots: Any = random.Random(seed)
    for number in range(orders):
        yield script(f"{run}-{number:06d}", lots, habits)
