"""The order read model against the fold of the order events, with rules of the auditor's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from app.audit.checker import Shared
from app.audit.findings import Findings
from app.audit.records import Kind, Message, Seen
from app.audit.rows import Rows

CATEGORY, AGENT = "orders", "projecting-orders"
CREATED, FAILED = "order.created", "order.payment-failed"

STATUS_AFTER = {
    CREATED: "created",
    "order.payment-processed": "paid",
    "order.shipped": "shipped",
    "order.delivered": "delivered",
    "order.cancelled": "cancelled",
}
MOMENTS = {
    CREATED: "created_at",
    "order.inventory-reserved": "reserved_at",
    "order.payment-requested": "payment_requested_at",
    "order.payment-processed": "paid_at",
    "order.shipped": "shipped_at",
    "order.delivered": "delivered_at",
    "order.cancelled": "cancelled_at",
    "order.refund-requested": "refund_requested_at",
}
ORDERED = ("customer_id", "customer_name", "customer_email")
KEPT = {"order.shipped": ("tracking_number", "tracking_number"), "order.cancelled": ("cancel_reason", "reason")}


@dataclass(slots=True)
class Order:
    """What the events of one order come to, in about 500 bytes: what is only compared is kept as a fingerprint."""

    version: int = 0
    status: str = ""
    total: Decimal = Decimal(0)
    ordered: int = 0
    customer: int = 0
    created: int = 0
    moments: int = 0
    told: int = 0
    failed_payments: int = 0

    def apply(self, message: Message) -> None:
        """The next event."""
        kind, data = message.fact, message.data
        self.version = message.version or 0
        self.status = STATUS_AFTER.get(kind, self.status)
        self.failed_payments += kind == FAILED
        if kind in MOMENTS:
            self.moments ^= hash((MOMENTS[kind], moment(message.time)))
        if kind in KEPT:
            name, source = KEPT[kind]
            self.told ^= hash((name, data[source]))
        if kind == CREATED:
            self.total = Decimal(data["total"])
            self.ordered = _ordered(data)
            self.customer = hash(data["customer_id"])
            self.created = hash(moment(message.time))

    def differences(self, row: Mapping[str, Any]) -> list[str]:
        """In what the row of the same version differs."""
        moments = told = 0
        for name in MOMENTS.values():
            if row.get(name) is not None:
                moments ^= hash((name, moment(row[name])))
        for name, _ in KEPT.values():
            if row.get(name) is not None:
                told ^= hash((name, row[name]))
        same = {
            "version": row.get("version") == self.version,
            "status": row.get("status") == self.status,
            f"total ({row.get('total')}, not {self.total})": Decimal(row.get("total", "nan")) == self.total,
            "customer or items": _ordered(row) == self.ordered,
            "times": moments == self.moments,
            "tracking number or reason": told == self.told,
            "failed payments": row.get("failed_payments", 0) == self.failed_payments,
        }
        return [name for name, is_same in same.items() if not is_same]


class Orders:
    """What the events of all orders come to; and whether the totals are right."""

    kinds = frozenset({Kind.EVENT})

    def __init__(self) -> None:
        self.folded: dict[str, Order] = {}
        self.totals = Findings("order-totals", "an order's total is the sum of price times quantity")

    @property
    def findings(self) -> Sequence[Findings]:
        """The books of its invariants."""
        return (self.totals,)

    def take(self, seen: Seen) -> None:
        """The next event."""
        message = seen.message
        if seen.place != (Kind.EVENT, CATEGORY) or message is None:
            return
        try:
            self.folded.setdefault(message.subject, Order()).apply(message)
            if message.fact == CREATED:
                self._check_total(seen, message)
        except (LookupError, TypeError, ValueError, ArithmeticError) as error:
            self.totals.broken(f"{seen.at}: {message.type} of {message.subject} cannot be folded: {error!r}")

    def _check_total(self, seen: Seen, message: Message) -> None:
        total = Decimal(message.data["total"])
        come_to = sum((Decimal(item["price"]) * item["quantity"] for item in message.data["items"]), Decimal(0))
        self.totals.expect(
            come_to == total, lambda: f"{seen.at}: the total of {message.subject} is {total}, its items are {come_to}"
        )


class OrderRows:
    """Row for row, field for field, at the same version."""

    kinds = frozenset({Kind.EVENT, Kind.ROW})

    def __init__(self, shared: Shared, orders: Orders) -> None:
        self._orders = orders.folded
        self.rows = Findings(
            "orders-equal-events",
            "each row of the order read model is the fold of the order's events",
            excuse=lambda order_id: shared.is_parked(AGENT, str(order_id)),
        )
        self._rows = Rows(self.rows, AGENT, "orders")

    @property
    def findings(self) -> Sequence[Findings]:
        """The books of its invariants."""
        return (self.rows,)

    def take(self, seen: Seen) -> None:
        """The next event or row."""
        if seen.place == (Kind.EVENT, CATEGORY) and seen.message is not None:
            self._compare(seen, seen.message.subject)
        elif self._rows.is_row(seen):
            order_id = seen.row_key.decode(errors="replace")
            if self._rows.put(seen, order_id) is not None:
                self._compare(seen, order_id)

    def _compare(self, seen: Seen, order_id: str) -> None:
        order = self._orders.get(order_id) or Order()
        self._rows.compare(seen, order_id, order.version, order.differences)


def moment(told: str | datetime) -> datetime:
    """A time as JSON or as MessagePack tells it."""
    return (told if isinstance(told, datetime) else datetime.fromisoformat(told)).astimezone(UTC)


def _ordered(data: Mapping[str, Any]) -> int:
    items = tuple((item["product_id"], item["quantity"], Decimal(item["price"])) for item in data["items"])
    return hash((*(data[name] for name in ORDERED), items))
