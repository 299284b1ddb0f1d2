"""Fulfilment, as a pure chain: whatever stage waits has a timer, and whatever is late is handled."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from app.chains.fulfilment import FULFILMENT, GUARD, PAYMENT, STEP_DUE, STEP_DUE_MAX, Fulfilment, Stage
from app.domain.inventory import ReleaseStock, StockReserved
from app.domain.order import CancelOrder, InventoryReserved, OrderShipped, PaymentProcessed, ShipOrder
from app.kernel import Envelope, Event, Step

WAITS = [stage for stage in Stage if stage is not Stage.UNKNOWN]


def waiting(stage: Stage, tries: int = 0) -> Fulfilment:
    """An order of two products, of which one has not answered."""
    return Fulfilment("o1", stage, {"p1": 1, "p2": 1}, ("p1",), tries=tries, reason="why")


def happens(state: Fulfilment, event: Event) -> Step[Fulfilment]:
    return FULFILMENT.react(state, Envelope("e", "s", datetime(2026, 1, 1, tzinfo=UTC), event, 1))


@pytest.mark.parametrize("stage", WAITS)
def test_after_every_time_out_there_is_a_timer_again_or_an_end(stage: Stage) -> None:
    state, step = waiting(stage), Step(waiting(stage))
    for _ in range(30):
        step = FULFILMENT.time_out(state, GUARD)
        state = step.state
        if step.finished:
            break
        assert any(due is not None for due in step.timers.values()), step
        assert step.waiting_for
    assert step.finished == (stage is Stage.DONE)


def test_a_step_is_sent_again_less_and_less_often() -> None:
    state, pauses = waiting(Stage.SHIPPING), list[timedelta | None]()
    for _ in range(15):
        step = FULFILMENT.time_out(state, GUARD)
        assert [type(command) for command in step.send] == [ShipOrder]
        state = step.state
        pauses.append(step.timers[GUARD])
    assert pauses[:3] == [STEP_DUE * 2, STEP_DUE * 4, STEP_DUE * 8]
    assert pauses[-1] == STEP_DUE_MAX


def test_a_cancellation_is_asked_for_again_with_its_reason() -> None:
    assert FULFILMENT.time_out(waiting(Stage.CANCELLING), GUARD).send == [CancelOrder("o1", "why")]


def test_silent_stock_calls_the_order_off_and_releases_what_has_answered() -> None:
    step = FULFILMENT.time_out(waiting(Stage.RESERVING), GUARD)
    assert [type(command) for command in step.send] == [ReleaseStock, CancelOrder]
    assert (step.state.stage, step.timers[PAYMENT]) == (Stage.CANCELLING, None)


def test_stock_that_answers_after_the_end_is_released() -> None:
    ended = FULFILMENT.time_out(waiting(Stage.DONE), GUARD)
    late = happens(ended.state, StockReserved("p2", "o1", 1, 0))
    assert late.send == [ReleaseStock("p2", "o1", "the order is cancelled")]
    assert late.finished


def test_a_confirmation_that_comes_after_the_cancellation_began_changes_nothing() -> None:
    step = happens(waiting(Stage.CANCELLING), InventoryReserved("o1", "c"))
    assert (step.state.stage, step.send) == (Stage.CANCELLING, ())


def test_a_paid_order_is_guarded_until_it_is_shipped() -> None:
    paid = happens(waiting(Stage.PAYING), PaymentProcessed("o1", "c", "pay", 1))  # type: ignore[arg-type]
    assert paid.timers == {GUARD: STEP_DUE, PAYMENT: None}
    whole = Fulfilment("o1", Stage.SHIPPING, {"p1": 1}, ("p1",))
    assert happens(whole, OrderShipped("o1", "c", "t")).finished
