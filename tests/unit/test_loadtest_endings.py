"""The troubled shop's recount: it agrees with orders that ended as planned, and finds each that did not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from app.domain.order import CreateOrder
from loadtest.endings import Endings
from loadtest.lives import SHARES, Habit, Life, lives, setting_up

RUN, ORDERS = "run", 200
FACTS: dict[Habit, tuple[str, ...]] = {
    Habit.PAYS: ("created", "payment-processed", "shipped", "delivered"),
    Habit.PAYS_AT_ONCE: ("created", "payment-processed", "shipped", "delivered"),
    Habit.DECLINED: ("created", "payment-failed", "cancelled"),
    Habit.FORGETS: ("created", "cancelled"),
    Habit.REGRETS: ("created", "cancelled"),
    Habit.REGRETS_LATE: ("created", "payment-processed", "cancelled", "refund-requested"),
    Habit.TOO_MUCH: ("created", "cancelled"),
}
REASONS = {
    Habit.DECLINED: "payment failed: insufficient funds",
    Habit.FORGETS: "not paid in time",
    Habit.REGRETS: "changed my mind",
    Habit.REGRETS_LATE: "found it cheaper",
    Habit.TOO_MUCH: "out of stock: run-p0",
}


def stock(product: str, kind: str, quantity: int, order_id: str = "") -> dict[str, Any]:
    return {"subject": product, "type": f"inventory.{kind}.v1", "data": {"quantity": quantity, "order_id": order_id}}


def ended() -> Endings:
    """Every order as it was planned."""
    planned = lives(RUN, ORDERS, seed=5)
    found = Endings({life.order_id: life for life in planned})
    for product in range(12):
        found.stock_event(stock(f"{RUN}-p{product}", "stocked", 10_000))
    for life in planned:
        for kind in FACTS[life.habit]:
            data = {"reason": REASONS.get(life.habit), "amount": str(life.total)}
            found.order_event({"subject": life.order_id, "type": f"order.{kind}.v1", "data": data})
        for item in life.create.items:
            found.stock_event(stock(item.product_id, "reserved", item.quantity, life.order_id))
            if "delivered" not in FACTS[life.habit]:
                found.stock_event(stock(item.product_id, "released", item.quantity, life.order_id))
        for name in life.alerts:
            found.alert({"data": {"filter": name, "stream_id": life.order_id}})
    return found


def first(found: Endings, habit: Habit) -> Life:
    return next(life for life in found.lives.values() if life.habit is habit)


def test_what_ended_as_planned_has_no_mismatch() -> None:
    found = ended()
    assert found.mismatches() == []
    assert set(found.by_habit()) == set(map(str, SHARES))
    assert sum(sum(ends.values()) for ends in found.by_habit().values()) == ORDERS
    assert set(found.alerts_by_filter()) == {"high-value", "vip"}


def never_shipped(found: Endings) -> None:
    found.events[first(found, Habit.PAYS).order_id][2:] = []


def shipped_unpaid(found: Endings) -> None:
    found.events[first(found, Habit.FORGETS).order_id] = ["created", "shipped", "delivered"]


def cancelled_for_another_reason(found: Endings) -> None:
    found.reasons[first(found, Habit.TOO_MUCH).order_id] = "not paid in time"


def not_refunded(found: Endings) -> None:
    found.events[first(found, Habit.REGRETS_LATE).order_id].remove("refund-requested")


def refunded_too_much(found: Endings) -> None:
    found.refunds[first(found, Habit.REGRETS_LATE).order_id] += 1


def not_released(found: Endings) -> None:
    life = first(found, Habit.DECLINED)
    found.stock_event(stock(life.create.items[0].product_id, "reserved", life.create.items[0].quantity, life.order_id))


def piece_lost(found: Endings) -> None:
    found.shelves[f"{RUN}-p3"] -= 1


def alert_lost(found: Endings) -> None:
    del found.alerts[next(iter(found.alerts))]


def alert_doubled(found: Endings) -> None:
    found.alerts[next(iter(found.alerts))] += 1


@pytest.mark.parametrize(
    "spoil",
    [
        never_shipped,
        shipped_unpaid,
        cancelled_for_another_reason,
        not_refunded,
        refunded_too_much,
        not_released,
        piece_lost,
        alert_lost,
        alert_doubled,
    ],
)
def test_each_wrong_end_is_found(spoil: Callable[[Endings], None]) -> None:
    found = ended()
    spoil(found)
    assert found.mismatches()


def test_one_seed_is_one_day() -> None:
    assert lives(RUN, 50, 1) == lives(RUN, 50, 1) != lives(RUN, 50, 2)
    habits = {life.habit for life in lives(RUN, ORDERS, 1)}
    assert habits == set(Habit)
    assert not any(isinstance(command, CreateOrder) for command in setting_up(RUN))
