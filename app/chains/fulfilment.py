"""Fulfilment: an order is created → its items are reserved → payment is requested → it is paid → it is shipped.

And back, where a step fails: an item that is out of stock, a payment that is declined or does not come in time, a
cancellation: what is reserved is released, the order is cancelled with the reason, what was paid is refunded.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from enum import StrEnum
from typing import Any

import msgspec

from app.domain.inventory import INVENTORY, ReleaseStock, ReserveStock, StockRejected, StockReserved
from app.domain.order import (
    ORDER,
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

PAYMENT = "payment"
PAYMENT_DUE = timedelta(minutes=15)


class Stage(StrEnum):
    """Where an order's fulfilment stands."""

    UNKNOWN = "unknown"
    RESERVING = "reserving"
    PAYING = "paying"
    SHIPPING = "shipping"
    CANCELLING = "cancelling"
    DONE = "done"


class Fulfilment(msgspec.Struct, frozen=True):
    """One order's. `wanted` is what was asked for by product, `reserved` what was set aside, `refused` what was not.

    `paid` is an order that was paid for before its stock was reserved.
    """

    order_id: str = ""
    stage: Stage = Stage.UNKNOWN
    wanted: dict[str, int] = msgspec.field(default_factory=dict)
    reserved: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    paid: bool = False

    @property
    def answered(self) -> bool:
        """Whether every product's answer has come in."""
        return len(self.reserved) + len(self.refused) == len(self.wanted)


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
        case InventoryReserved() if state.paid and state.stage is Stage.RESERVING:
            return _ship(state)
        case InventoryReserved():
            paying = msgspec.structs.replace(state, stage=Stage.PAYING)
            request = [RequestPayment(state.order_id)]
            return Step(paying, request, {PAYMENT: PAYMENT_DUE}, waiting_for="the customer's payment")
        case PaymentFailed(reason=reason):
            return _cancel(state, f"payment failed: {reason}")
        case PaymentProcessed():
            return _paid(state)
        case OrderShipped():
            return _done(state)
        case OrderCancelled():
            return _cancelled(state, event)
        case _:
            return _stay(state)


def time_out(state: Fulfilment, name: str) -> Step[Fulfilment]:
    """The payment did not come in time."""
    return _cancel(state, "not paid in time") if state.stage is Stage.PAYING else _stay(state)


def _begin(event: OrderCreated) -> Step[Fulfilment]:
    wanted: dict[str, int] = {}
    for item in event.items:
        wanted[item.product_id] = wanted.get(item.product_id, 0) + item.quantity
    asked = [ReserveStock(product_id, event.order_id, quantity) for product_id, quantity in wanted.items()]
    state = Fulfilment(event.order_id, Stage.RESERVING, wanted)
    return Step(state, asked, waiting_for="the stock of its items")


def _reserved(state: Fulfilment, product_id: str) -> Step[Fulfilment]:
    if state.stage is not Stage.RESERVING:  # it is being cancelled: this one came too late
        return _finish_if_answered(state, _release(state, [product_id]))
    if state.answered:
        return Step(state, [ConfirmReservation(state.order_id)], waiting_for="the order's confirmation")
    return Step(state, waiting_for="the stock of its items")


def _paid(state: Fulfilment) -> Step[Fulfilment]:
    if state.stage is Stage.RESERVING:  # the customer was quick: it is shipped once the stock is reserved
        return _stay(msgspec.structs.replace(state, paid=True))
    if state.stage is not Stage.PAYING:  # it is being cancelled: the cancellation will say what is owed
        return _stay(state)
    return _ship(state)


def _ship(state: Fulfilment) -> Step[Fulfilment]:
    shipping = msgspec.structs.replace(state, stage=Stage.SHIPPING)
    ship = ShipOrder(state.order_id, f"parcel-{state.order_id}"[:256])
    return Step(shipping, [ship], {PAYMENT: None}, waiting_for="the carrier")


def _cancel(state: Fulfilment, reason: str) -> Step[Fulfilment]:
    if state.stage not in (Stage.RESERVING, Stage.PAYING):
        return _finish_if_answered(state)
    send: list[Command] = [*_release(state, state.reserved), CancelOrder(state.order_id, reason[:256])]
    cancelling = msgspec.structs.replace(state, stage=Stage.CANCELLING)
    return Step(cancelling, send, {PAYMENT: None}, waiting_for="the order's cancellation")


def _cancelled(state: Fulfilment, event: OrderCancelled) -> Step[Fulfilment]:
    released = [] if state.stage in (Stage.CANCELLING, Stage.DONE) else _release(state, state.reserved)
    refund: list[Command] = [RequestRefund(state.order_id)] if event.paid else []
    done = msgspec.structs.replace(state, stage=Stage.DONE)
    return _finish_if_answered(done, [*released, *refund])


def _finish_if_answered(state: Fulfilment, send: Iterable[Command] = ()) -> Step[Fulfilment]:
    finished = state.stage is Stage.DONE and state.answered
    waiting_for = "" if finished else "late answers of the stock" if state.stage is Stage.DONE else "the cancellation"
    return Step(state, tuple(send), {PAYMENT: None}, waiting_for, finished)


def _done(state: Fulfilment) -> Step[Fulfilment]:
    return Step(msgspec.structs.replace(state, stage=Stage.DONE), timers={PAYMENT: None}, finished=True)


def _stay(state: Fulfilment) -> Step[Fulfilment]:
    waiting = {
        Stage.RESERVING: "the stock of its items",
        Stage.PAYING: "the customer's payment",
        Stage.SHIPPING: "the carrier",
        Stage.CANCELLING: "the order's cancellation",
    }
    return Step(state, waiting_for=waiting.get(state.stage, ""), finished=state.stage is Stage.DONE and state.answered)


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
