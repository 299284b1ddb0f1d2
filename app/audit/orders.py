"""The order read model against the fold of the order events, with rules of the auditor's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from app.audit.checker import Shared
from app.audit.findings import Findings
from app.audit.letters import parked_key
from app.audit.records import Kind, Message, Seen

CATEGORY, AGENT, TABLE = "orders", "projecting-orders", "orders"
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
            self.moments ^= hash((MOMENTS[kind], _time(message.time)))
        if kind in KEPT:
            name, source = KEPT[kind]
            self.told ^= hash((name, data[source]))
        if kind == CREATED:
            self.total = Decimal(data["total"])
            self.ordered = _ordered(data)

    def differences(self, row: Mapping[str, Any]) -> list[str]:
        """In what the row of the same version differs."""
        moments = told = 0
        for name in MOMENTS.values():
            if row.get(name) is not None:
                moments ^= hash((name, _time(row[name])))
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


class OrderRows:
    """Row for row, field for field, at the same version. Rows that lag behind are in flight."""

    kinds = frozenset({Kind.EVENT, Kind.ROW, Kind.ENGINE_ROW})

    def __init__(self, shared: Shared) -> None:
        self._parked = shared.parked
        self._orders: dict[str, Order] = {}
        self._rows: dict[str, tuple[int, Any]] = {}
        self.totals = Findings("order-totals", "an order's total is the sum of price times quantity")
        self.rows = Findings(
            "orders-equal-events", "each row of the order read model is the fold of the order's events"
        )

    @property
    def findings(self) -> Sequence[Findings]:
        """The books of its invariants."""
        return self.totals, self.rows

    def take(self, seen: Seen) -> None:
        """The next event or row."""
        if seen.place == (Kind.EVENT, CATEGORY) and seen.message is not None:
            self._event(seen, seen.message)
        elif seen.place == (Kind.ROW, AGENT) and seen.table == TABLE:
            self._row(seen, seen.row_key.decode(errors="replace"))
        elif seen.place == (Kind.ENGINE_ROW, AGENT) and (key := parked_key(seen)) is not None:
            self.rows.settle(key.decode(errors="replace"))  # its events lie in the dead letters, and are told of there

    def _event(self, seen: Seen, message: Message) -> None:
        order_id = message.subject
        order = self._orders.setdefault(order_id, Order())
        try:
            order.apply(message)
            if message.fact == CREATED:
                self._check_total(seen, message)
        except (LookupError, TypeError, ValueError, ArithmeticError) as error:
            self.rows.broken(f"{seen.at}: {message.fact} of {order_id} cannot be folded: {error!r}")
        self._compare(order_id, order, seen)

    def _check_total(self, seen: Seen, message: Message) -> None:
        total = Decimal(message.data["total"])
        come_to = sum((Decimal(item["price"]) * item["quantity"] for item in message.data["items"]), Decimal(0))
        self.totals.expect(
            come_to == total, lambda: f"{seen.at}: the total of {message.subject} is {total}, its items are {come_to}"
        )

    def _row(self, seen: Seen, order_id: str) -> None:
        if not isinstance(seen.row, dict) or not isinstance(seen.row.get("row"), dict):
            self.rows.broken(f"{seen.at}: the row of {order_id} is gone or unreadable")
            return
        self._rows[order_id] = int(seen.row["version"]), seen.row["row"]
        self._compare(order_id, self._orders.get(order_id), seen)

    def _compare(self, order_id: str, order: Order | None, seen: Seen) -> None:
        """Compare where both are at one version; what is compared need not be kept."""
        version, row = self._rows.get(order_id, (0, None))
        at = order.version if order is not None else 0
        if row is None or order is None or version != at:
            if (AGENT, order_id.encode()) not in self._parked:
                open_ = self.rows.reopen if seen.place.kind is Kind.ROW else self.rows.open
                open_(order_id, seen.now, f"{order_id}: its events are at version {at}, its row is at another")
            return
        del self._rows[order_id]
        self.rows.settle(order_id)
        try:
            wrong = order.differences(row)
        except (LookupError, TypeError, ValueError, ArithmeticError) as error:
            wrong = [repr(error)]
        self.rows.expect(not wrong, lambda: f"{seen.at}: {order_id} at version {version} differs: {', '.join(wrong)}")


def _time(told: str | datetime) -> datetime:
    return (told if isinstance(told, datetime) else datetime.fromisoformat(told)).astimezone(UTC)


def _ordered(data: Mapping[str, Any]) -> int:
    items = tuple((item["product_id"], item["quantity"], Decimal(item["price"])) for item in data["items"])
    return hash((*(data[name] for name in ORDERED), items))
