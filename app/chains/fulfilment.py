"""Fulfilment: an order is created → its items are reserved → payment is requested → it is paid → it is shipped.

And back, where a step fails: an item that is out of stock, a payment that is declined or does not come in time, a
cancellation: what is reserved is released, the order is cancelled with the reason, what was paid is refunded.

Every stage that waits has a timer, so that whatever is lost or parked on the way, no order waits for ever unseen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Any, assert_never

import msgspec

from app.domain.inventory import INVENTORY, ReleaseStock, ReserveStock, StockRejected, StockReserved
from app.domain.order import (
    ORDER,
    PAY_WITHIN_S,
    CancelOrder,
    ConfirmReservation,
    InventoryReserved,
    OrderCancelled,
    OrderCreated,
    OrderShipped,
    PaymentFailed,
    PaymentProcessed,
    RequestPayment,
    RequestRefund,
    ShipOrder,
)
from app.kernel import Chain, Command, Envelope, Event, Step

PAYMENT, GUARD = "payment", "guard"
STOCK_DUE = timedelta(minutes=30)
"""Until then every product has answered and the order is confirmed, or it is called off."""
STEP_DUE = timedelta(minutes=1)
STEP_DUE_MAX = timedelta(days=1)
"""A step that is not confirmed is sent again: after a minute, then two, then four, up to once a day."""


class Stage(StrEnum):
    """Where an order's fulfilment stands."""

    UNKNOWN = "unknown"
    RESERVING = "reserving"
    PAYING = "paying"
    SHIPPING = "shipping"
    CANCELLING = "cancelling"
    DONE = "done"


WAITING_FOR = {
    Stage.RESERVING: "the stock of its items",
    Stage.PAYING: "the customer's payment",
    Stage.SHIPPING: "the carrier",
    Stage.CANCELLING: "the order's cancellation",
    Stage.DONE: "late answers of the stock",
}


class Fulfilment(msgspec.Struct, frozen=True):
    """One order's. `wanted` is what was asked for by product, `reserved` what was set aside, `refused` what was not.

    `paid` is an order that was paid for before its stock was reserved. `tries` counts how often the step of this stage
    was sent again, `reason` is why the order is called off.
    """

    order_id: str = ""
    stage: Stage = Stage.UNKNOWN
    wanted: dict[str, int] = msgspec.field(default_factory=dict)
    reserved: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    paid: bool = False
    pay_within_s: int = PAY_WITHIN_S
    tries: int = 0
    reason: str = ""

    @property
    def unanswered(self) -> list[str]:
        """The products whose answer has not come in."""
        return [product for product in self.wanted if product not in self.reserved and product not in self.refused]

    @property
    def finished(self) -> bool:
        """Whether nothing must come any more."""
        return self.stage is Stage.DONE and not self.unanswered


def instance(event: Event) -> str | None:
    """The order that an event is about."""
    return getattr(event, "order_id", None)


def react(state: Fulfilment, envelope: Envelope[Any]) -> Step[Fulfilment]:
    """The next step after an event."""
    event = envelope.message
    if state.stage is Stage.UNKNOWN:
        return _begin(event) if isinstance(event, OrderCreated) and event.fulfil else Step(state)
    match event:
        case StockReserved(product_id=product_id):
            return _reserved(msgspec.structs.replace(state, reserved=(*state.reserved, product_id)), product_id)
        case StockRejected(product_id=product_id):
            refused = msgspec.structs.replace(state, refused=(*state.refused, product_id))
            return _cancel(refused, f"out of stock: {product_id}")
        case InventoryReserved() if state.stage is Stage.RESERVING:
            return _reserved_all(state)
        case PaymentFailed(reason=reason):
            return _cancel(state, f"payment failed: {reason}")
        case PaymentProcessed():
            return _paid(state)
        case OrderShipped():
            return _enter(state, Stage.DONE)
        case OrderCancelled():
            return _cancelled(state, event)
        case _:
            return _stay(state)


def time_out(state: Fulfilment, name: str) -> Step[Fulfilment]:
    """What a stage waits for did not come in time: no stage waits for ever, each has a timer."""
    match state.stage:
        case Stage.RESERVING:
            return _cancel(state, "the stock did not answer in time")
        case Stage.PAYING:
            return _cancel(state, "not paid in time")
        case Stage.SHIPPING:
            return _again(state, [_ship(state)])
        case Stage.CANCELLING:
            return _again(state, [CancelOrder(state.order_id, state.reason or "called off")])
        case Stage.DONE:
            return _give_up_waiting(state)
        case Stage.UNKNOWN:
            return _stay(state)
        case _:
            assert_never(state.stage)


def _begin(event: OrderCreated) -> Step[Fulfilment]:
    wanted: dict[str, int] = {}
    for item in event.items:
        wanted[item.product_id] = wanted.get(item.product_id, 0) + item.quantity
    asked = [ReserveStock(product_id, event.order_id, quantity) for product_id, quantity in wanted.items()]
    state = Fulfilment(event.order_id, wanted=wanted, pay_within_s=event.pay_within_s)
    return _enter(state, Stage.RESERVING, asked)


def _reserved(state: Fulfilment, product_id: str) -> Step[Fulfilment]:
    if state.stage is not Stage.RESERVING:  # it is being cancelled, or was: this one came too late
        return _stay(state, _release(state, [product_id]))
    if state.unanswered:
        return _stay(state)
    return Step(state, [ConfirmReservation(state.order_id)], waiting_for="the order's confirmation")


def _reserved_all(state: Fulfilment) -> Step[Fulfilment]:
    if state.paid:
        return _enter(state, Stage.SHIPPING, [_ship(state)])
    return _enter(state, Stage.PAYING, [RequestPayment(state.order_id)])


def _paid(state: Fulfilment) -> Step[Fulfilment]:
    if state.stage is Stage.RESERVING:  # the customer was quick: it is shipped once the stock is reserved
        return _stay(msgspec.structs.replace(state, paid=True))
    if state.stage is not Stage.PAYING:  # it is being cancelled: the cancellation will say what is owed
        return _stay(state)
    return _enter(state, Stage.SHIPPING, [_ship(state)])


def _cancel(state: Fulfilment, reason: str) -> Step[Fulfilment]:
    if state.stage not in (Stage.RESERVING, Stage.PAYING):
        return _stay(state)
    state = msgspec.structs.replace(state, reason=reason[:256])
    send = [*_release(state, state.reserved), CancelOrder(state.order_id, state.reason)]
    return _enter(state, Stage.CANCELLING, send)


def _cancelled(state: Fulfilment, event: OrderCancelled) -> Step[Fulfilment]:
    released = [] if state.stage in (Stage.CANCELLING, Stage.DONE) else _release(state, state.reserved)
    refund: list[Command] = [RequestRefund(state.order_id)] if event.paid else []
    return _enter(state, Stage.DONE, [*released, *refund])


def _again(state: Fulfilment, send: Sequence[Command]) -> Step[Fulfilment]:
    """Send the step of this stage again. It may have been lost, or parked until somebody redrives it."""
    state = msgspec.structs.replace(state, tries=state.tries + 1)
    return Step(state, send, {GUARD: _due(state)}, WAITING_FOR[state.stage])


def _give_up_waiting(state: Fulfilment) -> Step[Fulfilment]:
    """What has not answered yet is released unseen; should it answer still, it is released once more."""
    silent = state.unanswered
    state = msgspec.structs.replace(state, refused=(*state.refused, *silent))
    return Step(state, _release(state, silent), {GUARD: None}, finished=True)


def _enter(state: Fulfilment, stage: Stage, send: Sequence[Command] = ()) -> Step[Fulfilment]:
    """Begin a stage: its step is sent, and its timer takes the place of the last one's."""
    state = msgspec.structs.replace(state, stage=stage, tries=0)
    if state.finished:
        return Step(state, send, {PAYMENT: None, GUARD: None}, finished=True)
    timer, other = (PAYMENT, GUARD) if stage is Stage.PAYING else (GUARD, PAYMENT)
    return Step(state, send, {timer: _due(state), other: None}, WAITING_FOR[stage])


def _stay(state: Fulfilment, send: Sequence[Command] = ()) -> Step[Fulfilment]:
    """Go on waiting for the same; or nothing must come any more."""
    if state.finished:
        return Step(state, send, {PAYMENT: None, GUARD: None}, finished=True)
    return Step(state, send, waiting_for=WAITING_FOR[state.stage])


def _due(state: Fulfilment) -> timedelta:
    match state.stage:
        case Stage.PAYING:
            return timedelta(seconds=state.pay_within_s)
        case Stage.RESERVING | Stage.DONE:
            return STOCK_DUE
        case _:
            return min(STEP_DUE * (1 << min(state.tries, 20)), STEP_DUE_MAX)


def _ship(state: Fulfilment) -> ShipOrder:
    return ShipOrder(state.order_id, f"parcel-{state.order_id}"[:256])


def _release(state: Fulfilment, products: Iterable[str]) -> list[Command]:
    return [ReleaseStock(product_id, state.order_id, "the order is cancelled") for product_id in products]


FULFILMENT = Chain(
    name="fulfilment",
    initial=Fulfilment(),
    home=ORDER,
    follows=(INVENTORY,),
    instance=instance,
    react=react,
    time_out=time_out,
)
