"""Orders by day: how many were taken on each day, in UTC, and what they come to. A part of it in every partition."""

from __future__ import annotations

from datetime import UTC
from decimal import Decimal

import msgspec

from app.domain.order import ORDER, OrderCreated, OrderEvent
from app.kernel import Envelope, Projection


class DayRow(msgspec.Struct, frozen=True):
    """One day. `total` is the sum of the totals of the orders that were taken, whatever became of them later."""

    day: str
    count: int
    total: Decimal


def day_of(envelope: Envelope[OrderEvent]) -> str | None:
    """The UTC day of an order's first event; others do not matter."""
    return envelope.time.astimezone(UTC).date().isoformat() if isinstance(envelope.message, OrderCreated) else None


def project(row: DayRow | None, envelope: Envelope[OrderCreated]) -> DayRow:
    """This partition's part of the day, after one more order."""
    before = row or DayRow(day_of(envelope) or "", 0, Decimal(0))
    return DayRow(before.day, before.count + 1, before.total + envelope.message.total)


def merge(a: DayRow, b: DayRow) -> DayRow:
    """Two parts of one day."""
    return DayRow(a.day, a.count + b.count, a.total + b.total)


ORDERS_BY_DAY = Projection(
    name="orders-by-day",
    category=ORDER.category,
    row=DayRow,
    project=project,
    key=day_of,
    merge=merge,
    newest_first=True,
)
