"""The lives of orders that the fleet fulfils, with all that goes wrong in a shop; and how each of them may end.

What a customer does is drawn from a seed. Commands may be doubled and shuffled on their way, so for some lives more
than one end is right: who cancels after having paid may be too late.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from app.domain.customer import PromoteToVip, RegisterCustomer, VerifyUser
from app.domain.inventory import StockProduct
from app.domain.order import PAY_WITHIN_S, CreateOrder, Item, total_of
from app.kernel import Command

PRODUCTS, SCARCE = 12, 1
PIECES = 1_000_000
SCARCE_PIECES = 3
CUSTOMERS = 40
VIP_EVERY = 5
FORGETTING_S = 3
HIGH_VALUE_ABOVE = Decimal(1000)


class Habit(StrEnum):
    """What a customer does with an order."""

    PAYS = "pays when asked to"
    PAYS_AT_ONCE = "pays at once"
    DECLINED = "is declined"
    FORGETS = "never pays"
    REGRETS = "cancels at once"
    REGRETS_LATE = "cancels after paying"
    TOO_MUCH = "wants more than there is"


SHARES = {
    Habit.PAYS: 45,
    Habit.PAYS_AT_ONCE: 10,
    Habit.DECLINED: 10,
    Habit.FORGETS: 10,
    Habit.REGRETS: 8,
    Habit.REGRETS_LATE: 9,
    Habit.TOO_MUCH: 8,
}


@dataclass(frozen=True)
class Life:
    """One order as it was planned."""

    habit: Habit
    create: CreateOrder
    vip: bool

    @property
    def order_id(self) -> str:
        """The order's id."""
        return self.create.order_id

    @property
    def total(self) -> Decimal:
        """What it costs."""
        return total_of(self.create.items)

    @property
    def alerts(self) -> set[str]:
        """The filters that must tell of it."""
        told = {"vip": self.vip, "high-value": self.total > HIGH_VALUE_ABOVE}
        return {name for name, is_told in told.items() if is_told}

    def wrong_end(self, events: Sequence[str], reason: str) -> str | None:
        """What is wrong with how it ended, if anything: `events` are the names of its events."""
        delivered, cancelled = "delivered" in events, "cancelled" in events
        if delivered == cancelled:
            return f"it must be either delivered or cancelled, and has {', '.join(events)}"
        if ("refund-requested" in events) != (cancelled and "payment-processed" in events):
            return f"what was paid must be refunded, and nothing else: {', '.join(events)}"
        match self.habit:
            case Habit.PAYS | Habit.PAYS_AT_ONCE:
                return None if delivered else f"it was paid for, and cancelled: {reason}"
            case Habit.REGRETS_LATE:
                return None
            case _:
                return None if cancelled and reason.startswith(REASONS[self.habit]) else f"delivered, or {reason!r}"


REASONS = {
    Habit.DECLINED: "payment failed: ",
    Habit.FORGETS: "not paid in time",
    Habit.REGRETS: "changed my mind",
    Habit.TOO_MUCH: "out of stock: ",
}


def setting_up(run: str) -> list[Command]:
    """What must be there before the first order: shelves, customers, some of them very important."""
    commands: list[Command] = [
        StockProduct(f"{run}-p{number}", SCARCE_PIECES if number < SCARCE else PIECES) for number in range(PRODUCTS)
    ]
    for number in range(CUSTOMERS):
        id_ = f"{run}-c{number}"
        commands += [RegisterCustomer(id_, f"No. {number}", f"c{number}@example.org"), VerifyUser(id_)]
        if not number % VIP_EVERY:
            commands.append(PromoteToVip(id_, "orders a lot"))
    return commands


def lives(run: str, orders: int, seed: int) -> list[Life]:
    """The orders, whose ids begin with the run's name."""
    lots = random.Random(seed)
    habits = lots.choices(list(SHARES), list(SHARES.values()), k=orders)
    return [_life(f"{run}-{number:06d}", run, habit, lots) for number, habit in enumerate(habits)]


def _life(order_id: str, run: str, habit: Habit, lots: random.Random) -> Life:
    customer = lots.randrange(CUSTOMERS)
    products = lots.sample(range(SCARCE, PRODUCTS), lots.randint(1, 3))
    items = [
        Item(f"{run}-p{product}", lots.randint(1, 3), Decimal(lots.randint(99, 29_999)) / 100) for product in products
    ]
    if habit is Habit.TOO_MUCH:
        items.append(Item(f"{run}-p0", SCARCE_PIECES + 1, Decimal(1)))
    create = CreateOrder(
        order_id,
        f"{run}-c{customer}",
        f"No. {customer}",
        f"c{customer}@example.org",
        tuple(items),
        fulfil=True,
        pay_within_s=FORGETTING_S if habit is Habit.FORGETS else PAY_WITHIN_S,
    )
    return Life(habit, create, vip=not customer % VIP_EVERY)
