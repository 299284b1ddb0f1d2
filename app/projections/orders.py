"""The order read model: one row per order, as its buyer and the shop's clerks see it."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import assert_never

import msgspec

from app.domain.order import (
    ORDER,
    InventoryReserved,
    Item,
    OrderCancelled,
    OrderCreated,
    OrderEvent,
    OrderShipped,
    OrderStatus,
    PaymentFailed,
    PaymentProcessed,
    PaymentRequested,
    RefundRequested,
    ShipmentDelivered,
)
from app.kernel import Envelope, Projection


class OrderRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One order. The times are those of the events, in UTC; `version` is the last event's."""

    order_id: str
    version: int
    status: OrderStatus
    customer_id: str
    customer_name: str
    customer_email: str
    items: tuple[Item, ...]
    total: Decimal
    created_at: datetime
    paid_at: datetime | None = None
    shipped_at: datetime | None = None
    delivered_at: datetime | None = None
    cancelled_at: datetime | None = None
    reserved_at: datetime | None = None
    payment_requested_at: datetime | None = None
    refund_requested_at: datetime | None = None
    tracking_number: str | None = None
    cancel_reason: str | None = None
    failed_payments: int = 0


def project(row: OrderRow | None, envelope: Envelope[OrderEvent]) -> OrderRow:
    """The order's row after the event."""
    event, version, time = envelope.message, envelope.version or 0, envelope.time
    if isinstance(event, OrderCreated):
        return OrderRow(
            event.order_id,
            version,
            OrderStatus.CREATED,
            event.customer_id,
            event.customer_name,
            event.customer_email,
            event.items,
            event.total,
            created_at=time,
        )
    if row is None:
        raise ValueError(f"{event.wire_name} of {event.order_id} came before order.created.v1")
    change = msgspec.structs.replace
    match event:
        case InventoryReserved():
            return change(row, version=version, reserved_at=time)
        case PaymentRequested():
            return change(row, version=version, payment_requested_at=time)
        case RefundRequested():
            return change(row, version=version, refund_requested_at=time)
        case PaymentProcessed():
            return change(row, version=version, status=OrderStatus.PAID, paid_at=time)
        case PaymentFailed():
            return change(row, version=version, failed_payments=row.failed_payments + 1)
        case OrderShipped(tracking_number=number):
            return change(row, version=version, status=OrderStatus.SHIPPED, shipped_at=time, tracking_number=number)
        case ShipmentDelivered():
            return change(row, version=version, status=OrderStatus.DELIVERED, delivered_at=time)
        case OrderCancelled(reason=reason):
            return change(row, version=version, status=OrderStatus.CANCELLED, cancelled_at=time, cancel_reason=reason)
        case _:
            assert_never(event)


ORDERS = Projection(name="orders", category=ORDER.category, row=OrderRow, project=project)
