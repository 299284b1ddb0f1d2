"""The order: commands → decide → events → evolve, read downwards."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, ClassVar, TypeAlias, assert_never

import msgspec

from app.kernel import Aggregate, Command, Event, Rejected
from app.kernel.words import ID_CHARS_MAX, Id, Word, is_id, told

OrderId = Id
PAY_WITHIN_S = 900
PayWithin = Annotated[int, msgspec.Meta(ge=1, le=90 * 86_400)]

ITEMS_PER_ORDER_MAX = 200
QUANTITY_MAX = 1_000_000
PRICE_DIGITS, PRICE_DECIMALS = 10, 4
"""With these the total of any order is exact: 21 digits at most, of the 28 that a `Decimal` computes with."""


class Item(msgspec.Struct, frozen=True):
    """One line of an order. `price` is per piece."""

    product_id: Annotated[str, told(minLength=1, maxLength=ID_CHARS_MAX)]
    quantity: Annotated[int, told(minimum=1, maximum=QUANTITY_MAX)]
    price: Annotated[Decimal, told(pattern=rf"^[0-9]{{1,{PRICE_DIGITS}}}(\.[0-9]{{1,{PRICE_DECIMALS}}})?$", minimum=0)]


# Commands


class CreateOrder(Command, frozen=True):
    """Take an order. The customer's name and e-mail travel along, so that no reader has to look them up."""

    wire_name: ClassVar[str] = "order.create.v1"
    order_id: OrderId
    customer_id: Id
    customer_name: Word
    customer_email: Word
    items: Annotated[tuple[Item, ...], told(minItems=1, maxItems=ITEMS_PER_ORDER_MAX)]
    fulfil: bool = False
    """Whether the fleet reserves, bills and ships the order; otherwise its sender does, by commands."""
    pay_within_s: PayWithin = PAY_WITHIN_S
    """Seconds from the request for payment until an order that the fleet fulfils is called off unpaid."""


class ConfirmReservation(Command, frozen=True):
    """Book that every item is set aside."""

    wire_name: ClassVar[str] = "order.confirm-reservation.v1"
    order_id: OrderId


class RequestPayment(Command, frozen=True):
    """Ask the customer to pay."""

    wire_name: ClassVar[str] = "order.request-payment.v1"
    order_id: OrderId


class ProcessPayment(Command, frozen=True):
    """Book a payment attempt: `declined` carries the gateway's reason where it was refused."""

    wire_name: ClassVar[str] = "order.process-payment.v1"
    order_id: OrderId
    payment_id: Word
    amount: Decimal
    declined: Word | None = None


class ShipOrder(Command, frozen=True):
    """Hand a paid order to the carrier."""

    wire_name: ClassVar[str] = "order.ship.v1"
    order_id: OrderId
    tracking_number: Word


class ConfirmDelivery(Command, frozen=True):
    """Book the carrier's word that the parcel has arrived."""

    wire_name: ClassVar[str] = "order.confirm-delivery.v1"
    order_id: OrderId


class CancelOrder(Command, frozen=True):
    """Call an order off that has not been shipped."""

    wire_name: ClassVar[str] = "order.cancel.v1"
    order_id: OrderId
    reason: Word


class RequestRefund(Command, frozen=True):
    """Ask for the money of a cancelled order to be paid back."""

    wire_name: ClassVar[str] = "order.request-refund.v1"
    order_id: OrderId


OrderCommand: TypeAlias = (
    CreateOrder
    | ConfirmReservation
    | RequestPayment
    | ProcessPayment
    | ShipOrder
    | ConfirmDelivery
    | CancelOrder
    | RequestRefund
)

# Events


class OrderCreated(Event, frozen=True):
    """An order was taken. `total` is the sum of price times quantity."""

    wire_name: ClassVar[str] = "order.created.v1"
    order_id: str
    customer_id: str
    customer_name: str
    customer_email: str
    items: tuple[Item, ...]
    total: Decimal
    fulfil: bool = False
    pay_within_s: int = PAY_WITHIN_S


class InventoryReserved(Event, frozen=True):
    """Every item is set aside for the order."""

    wire_name: ClassVar[str] = "order.inventory-reserved.v1"
    order_id: str
    customer_id: str


class PaymentRequested(Event, frozen=True):
    """The customer is asked to pay the total."""

    wire_name: ClassVar[str] = "order.payment-requested.v1"
    order_id: str
    customer_id: str
    amount: Decimal


class PaymentProcessed(Event, frozen=True):
    """The whole total was paid."""

    wire_name: ClassVar[str] = "order.payment-processed.v1"
    order_id: str
    customer_id: str
    payment_id: str
    amount: Decimal


class PaymentFailed(Event, frozen=True):
    """A payment attempt was declined: the order may be paid by another."""

    wire_name: ClassVar[str] = "order.payment-failed.v1"
    order_id: str
    customer_id: str
    payment_id: str
    amount: Decimal
    reason: str


class OrderShipped(Event, frozen=True):
    """The parcel is with the carrier."""

    wire_name: ClassVar[str] = "order.shipped.v1"
    order_id: str
    customer_id: str
    tracking_number: str


class ShipmentDelivered(Event, frozen=True):
    """The parcel has arrived."""

    wire_name: ClassVar[str] = "order.delivered.v1"
    order_id: str
    customer_id: str
    tracking_number: str


class OrderCancelled(Event, frozen=True):
    """The order was called off. `paid` is what the customer is owed back."""

    wire_name: ClassVar[str] = "order.cancelled.v1"
    order_id: str
    customer_id: str
    reason: str
    paid: Decimal


class RefundRequested(Event, frozen=True):
    """The customer is owed the amount."""

    wire_name: ClassVar[str] = "order.refund-requested.v1"
    order_id: str
    customer_id: str
    amount: Decimal


OrderEvent: TypeAlias = (
    OrderCreated
    | InventoryReserved
    | PaymentRequested
    | PaymentProcessed
    | PaymentFailed
    | OrderShipped
    | ShipmentDelivered
    | OrderCancelled
    | RefundRequested
)

# State


class OrderStatus(StrEnum):
    """Where an order stands."""

    NEW = "new"
    CREATED = "created"
    PAID = "paid"
    SHIPPED = "shipped"
    DELIVERED = "delivered"
    CANCELLED = "cancelled"


class Order(msgspec.Struct, frozen=True):
    """What the order needs to know of itself to decide."""

    status: OrderStatus = OrderStatus.NEW
    customer_id: str = ""
    total: Decimal = Decimal(0)
    tracking_number: str = ""
    reserved: bool = False
    payment_requested: bool = False
    owed: Decimal = Decimal(0)
    """What a cancelled order's customer has paid and is not yet paid back."""


def decide(order: Order, command: OrderCommand) -> Sequence[OrderEvent] | Rejected:
    """The events that `command` leads to, or why it is refused."""
    if order.status is OrderStatus.NEW and not isinstance(command, CreateOrder):
        return Rejected("order_not_found", "Order does not exist")
    match command:
        case CreateOrder():
            return _create(order, command)
        case ConfirmReservation(order_id):
            if order.status not in (OrderStatus.CREATED, OrderStatus.PAID):  # who pays early may overtake the stock
                return Rejected("order_not_created", "Can only reserve for created or paid order")
            return [] if order.reserved else [InventoryReserved(order_id, order.customer_id)]
        case RequestPayment(order_id):
            if order.status is not OrderStatus.CREATED or not order.reserved:
                return Rejected("order_not_reserved", "Can only request payment for reserved order")
            return [] if order.payment_requested else [PaymentRequested(order_id, order.customer_id, order.total)]
        case ProcessPayment():
            return _pay(order, command)
        case ShipOrder(order_id, tracking_number):
            if order.status is not OrderStatus.PAID:
                return Rejected("order_not_paid", "Can only ship paid order")
            return [OrderShipped(order_id, order.customer_id, tracking_number)]
        case ConfirmDelivery(order_id):
            if order.status is not OrderStatus.SHIPPED:
                return Rejected("order_not_shipped", "Can only deliver shipped order")
            return [ShipmentDelivered(order_id, order.customer_id, order.tracking_number)]
        case CancelOrder(order_id, reason):
            if order.status not in (OrderStatus.CREATED, OrderStatus.PAID):
                return Rejected("order_not_cancellable", "Can only cancel created or paid order")
            paid = order.total if order.status is OrderStatus.PAID else Decimal(0)
            return [OrderCancelled(order_id, order.customer_id, reason, paid)]
        case RequestRefund(order_id):
            if not order.owed:
                return Rejected("nothing_to_refund", "Can only refund cancelled order that was paid")
            return [RefundRequested(order_id, order.customer_id, order.owed)]
        case _:
            assert_never(command)


def evolve(order: Order, event: OrderEvent) -> Order:
    """The order after `event`."""
    match event:
        case OrderCreated():
            return Order(OrderStatus.CREATED, event.customer_id, event.total)
        case InventoryReserved():
            return msgspec.structs.replace(order, reserved=True)
        case PaymentRequested():
            return msgspec.structs.replace(order, payment_requested=True)
        case PaymentProcessed():
            return msgspec.structs.replace(order, status=OrderStatus.PAID)
        case PaymentFailed():
            return order
        case OrderShipped():
            return msgspec.structs.replace(order, status=OrderStatus.SHIPPED, tracking_number=event.tracking_number)
        case ShipmentDelivered():
            return msgspec.structs.replace(order, status=OrderStatus.DELIVERED)
        case OrderCancelled():
            return msgspec.structs.replace(order, status=OrderStatus.CANCELLED, owed=event.paid)
        case RefundRequested():
            return msgspec.structs.replace(order, owed=Decimal(0))
        case _:
            assert_never(event)


def total_of(items: Sequence[Item]) -> Decimal:
    """Σ price × quantity."""
    return sum((item.price * item.quantity for item in items), Decimal(0))


def _create(order: Order, command: CreateOrder) -> Sequence[OrderEvent] | Rejected:
    if order.status is not OrderStatus.NEW:
        return Rejected("order_already_created", "Order already created")
    if not command.items:
        return Rejected("order_empty", "Order needs at least one item")
    if len(command.items) > ITEMS_PER_ORDER_MAX:
        return Rejected("order_too_long", f"Order may have at most {ITEMS_PER_ORDER_MAX} items")
    if not all(map(_is_sellable, command.items)):
        return Rejected(
            "order_item_invalid",
            f"Every item needs a product, a quantity of 1 to {QUANTITY_MAX} and a price of 0 or more, with at most "
            f"{PRICE_DIGITS} digits before the point and {PRICE_DECIMALS} after it",
        )
    return [
        OrderCreated(
            command.order_id,
            command.customer_id,
            command.customer_name,
            command.customer_email,
            command.items,
            total_of(command.items),
            command.fulfil,
            command.pay_within_s,
        )
    ]


def _is_sellable(item: Item) -> bool:
    return is_id(item.product_id) and 1 <= item.quantity <= QUANTITY_MAX and _is_price(item.price)


def _is_price(price: Decimal) -> bool:
    """Digits with a point, as people write a price: no exponent, no infinity, no sign."""
    exponent = price.as_tuple().exponent
    plain = isinstance(exponent, int) and -PRICE_DECIMALS <= exponent <= 0
    return plain and not price.is_signed() and price.adjusted() < PRICE_DIGITS


def _pay(order: Order, command: ProcessPayment) -> Sequence[OrderEvent] | Rejected:
    if order.status is not OrderStatus.CREATED:
        return Rejected("order_not_created", "Can only pay for created order")
    if not command.amount.is_finite() or command.amount != order.total:
        return Rejected("payment_amount_mismatch", "Payment amount must match order total")
    if command.declined is not None:
        return [PaymentFailed(command.order_id, order.customer_id, command.payment_id, order.total, command.declined)]
    return [PaymentProcessed(command.order_id, order.customer_id, command.payment_id, order.total)]


ORDER = Aggregate(name="order", initial=Order(), decide=decide, evolve=evolve)
