"""Customers as buyers: one row for everybody who has ordered. Orders' events, brought to the customers' partitions."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import msgspec

from app.domain.order import ORDER, OrderCreated, OrderEvent, PaymentProcessed, RefundRequested
from app.kernel import Envelope, Projection


class CustomerRow(msgspec.Struct, frozen=True):
    """One buyer. `spent` is what was paid less what was asked to be paid back; `name` is that of the last order."""

    customer_id: str
    name: str
    orders: int
    spent: Decimal
    last_order_id: str
    last_order_at: datetime


def customer_of(envelope: Envelope[OrderEvent]) -> str | None:
    """The customer of the events that matter here."""
    match envelope.message:
        case OrderCreated(customer_id=id_) | PaymentProcessed(customer_id=id_) | RefundRequested(customer_id=id_):
            return id_
        case _:
            return None


def project(row: CustomerRow | None, envelope: Envelope[OrderEvent]) -> CustomerRow:
    """The buyer's row after the event. Events of different orders may come in any order: it makes no difference."""
    event, change = envelope.message, msgspec.structs.replace
    if isinstance(event, OrderCreated):
        created = CustomerRow(
            event.customer_id, event.customer_name, 1, Decimal(0), event.order_id, last_order_at=envelope.time
        )
        if row is None:
            return created
        last = max(row, created, key=lambda one: (one.last_order_at, one.last_order_id))
        return change(last, orders=row.orders + 1, spent=row.spent)
    if row is None:
        raise ValueError(f"{event.wire_name} of {event.order_id} came before order.created.v1")
    match event:
        case PaymentProcessed(amount=amount):
            return change(row, spent=row.spent + amount)
        case RefundRequested(amount=amount):
            return change(row, spent=row.spent - amount)
        case _:
            return row


CUSTOMERS = Projection(name="customers", category=ORDER.category, row=CustomerRow, project=project, key=customer_of)
