"""A customer's orders, newest first: one short row for each. Orders' events, brought to the customers' partitions."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import msgspec

from app.domain.order import (
    ORDER,
    OrderCancelled,
    OrderCreated,
    OrderEvent,
    OrderShipped,
    OrderStatus,
    PaymentProcessed,
    ShipmentDelivered,
)
from app.kernel import Envelope, Listing, Projection


class CustomerOrderRow(msgspec.Struct, frozen=True):
    """One order in its customer's list. `GET /orders/{id}` has all of it."""

    order_id: str
    status: OrderStatus
    total: Decimal
    created_at: datetime


def customer_of(envelope: Envelope[OrderEvent]) -> str:
    """The customer of the order: every event names it."""
    return envelope.message.customer_id


def project(row: CustomerOrderRow | None, envelope: Envelope[OrderEvent]) -> CustomerOrderRow:
    """The order's row after the event."""
    event = envelope.message
    if isinstance(event, OrderCreated):
        return CustomerOrderRow(event.order_id, OrderStatus.CREATED, event.total, envelope.time)
    if row is None:
        raise ValueError(f"{event.wire_name} of {event.order_id} came before order.created.v1")
    match event:
        case PaymentProcessed():
            return msgspec.structs.replace(row, status=OrderStatus.PAID)
        case OrderShipped():
            return msgspec.structs.replace(row, status=OrderStatus.SHIPPED)
        case ShipmentDelivered():
            return msgspec.structs.replace(row, status=OrderStatus.DELIVERED)
        case OrderCancelled():
            return msgspec.structs.replace(row, status=OrderStatus.CANCELLED)
        case _:
            return row


CUSTOMER_ORDERS = Projection(
    name="customer-orders",
    category=ORDER.category,
    row=CustomerOrderRow,
    project=project,
    key=customer_of,
    listing=Listing(
        item=lambda envelope: envelope.stream_id, at=lambda row: row.created_at, path="/customers/{id}/orders"
    ),
)
