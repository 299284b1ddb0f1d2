"""What an event log comes to, for the read models made of it: by rules of the tests' own, from the JSON alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

STATUSES = {
    "order.created.v1": "created",
    "order.payment-processed.v1": "paid",
    "order.shipped.v1": "shipped",
    "order.delivered.v1": "delivered",
    "order.cancelled.v1": "cancelled",
}


@dataclass
class Recounted:
    """`days`: orders and total. `customers`: orders, spent, last order. `lists`: order, status, total, newest first."""

    days: dict[str, tuple[int, Decimal]] = field(default_factory=dict)
    customers: dict[str, tuple[int, Decimal, str]] = field(default_factory=dict)
    lists: dict[str, list[tuple[str, str, Decimal]]] = field(default_factory=dict)


def recounted(events: Iterable[dict[str, Any]]) -> Recounted:
    """Recount events, given in the order of each order's own."""
    found = Recounted()
    orders: dict[str, dict[str, Any]] = {}
    for event in events:
        kind, data = event["type"], event["data"]
        order = orders.setdefault(event["subject"], {"spent": Decimal(0)})
        if kind == "order.created.v1":
            order |= {"at": event["time"], "customer": data["customer_id"], "total": Decimal(data["total"])}
        elif kind == "order.payment-processed.v1":
            order["spent"] += Decimal(data["amount"])
        elif kind == "order.refund-requested.v1":
            order["spent"] -= Decimal(data["amount"])
        order["status"] = STATUSES.get(kind, order.get("status"))
    for order_id, order in sorted(orders.items(), key=lambda item: (item[1]["at"], item[0]), reverse=True):
        day, customer = order["at"][:10], order["customer"]
        count, total = found.days.get(day, (0, Decimal(0)))
        found.days[day] = count + 1, total + order["total"]
        of = found.lists.setdefault(customer, [])
        of.append((order_id, order["status"], order["total"]))
        _, spent, _ = found.customers.get(customer, (0, Decimal(0), ""))
        found.customers[customer] = len(of), spent + order["spent"], of[0][0]
    return found
