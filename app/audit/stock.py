"""Stock: never below nothing, equal to its history; and what is set aside is what the orders need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from app.audit.checker import Shared
from app.audit.findings import Findings
from app.audit.records import Kind, Message, Seen

CATEGORY, AGENT, TABLE = "inventory", "deciding-inventory", "snapshots"
CHANGES = {
    "inventory.stocked": 1,
    "inventory.reserved": -1,
    "inventory.released": 1,
    "inventory.rejected": 0,
}


@dataclass
class Shelf:
    """One product: what is there, and what is set aside for which order."""

    version: int = 0
    available: int = 0
    aside: dict[str, int] = field(default_factory=dict)


class Stock:
    """The shelves. About 300 bytes for each product, 150 for each reservation that is not released."""

    kinds = frozenset({Kind.EVENT, Kind.ROW})

    def __init__(self, shared: Shared) -> None:
        self.shelves: dict[str, Shelf] = {}
        self._rows: dict[str, dict[str, Any]] = {}
        self.history = Findings(
            "stock-equals-history", "stock is never negative, and each figure of it is the sum of its history"
        )

    @property
    def findings(self) -> Sequence[Findings]:
        """The books of its invariants."""
        return (self.history,)

    def aside(self, product_id: str, order_id: str) -> int:
        """How many pieces are set aside for an order."""
        shelf = self.shelves.get(product_id)
        return 0 if shelf is None else shelf.aside.get(order_id, 0)

    def take(self, seen: Seen) -> None:
        """The next event or snapshot."""
        try:
            if seen.place == (Kind.EVENT, CATEGORY) and seen.message is not None:
                self._event(seen, seen.message)
            elif seen.place == (Kind.ROW, AGENT) and seen.table == TABLE:
                self._snapshot(seen, seen.row_key.decode(errors="replace"))
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            self.history.broken(f"{seen.at}: cannot be read as a product's: {error!r}")

    def _event(self, seen: Seen, message: Message) -> None:
        product_id, data = message.subject, message.data
        shelf = self.shelves.setdefault(product_id, Shelf())
        sign, quantity = CHANGES[message.fact], int(data["quantity"])
        shelf.version = message.version or 0
        shelf.available += sign * quantity
        if sign < 0:
            self.history.expect(
                data["order_id"] not in shelf.aside,
                lambda: f"{seen.at}: {product_id} is set aside for {data['order_id']} a second time",
            )
            shelf.aside[data["order_id"]] = quantity
        elif message.fact == "inventory.released":
            was = shelf.aside.pop(data["order_id"], 0)
            self.history.expect(
                was == quantity, lambda: f"{seen.at}: {quantity} of {product_id} were released, {was} were set aside"
            )
        self.history.expect(
            0 <= shelf.available == data["available"],
            lambda: f"{seen.at}: {product_id} has {data['available']}, its history comes to {shelf.available}",
        )
        self._compare(seen, product_id)

    def _snapshot(self, seen: Seen, product_id: str) -> None:
        if seen.row is None:
            self.history.broken(f"{seen.at}: the snapshot of {product_id} is gone")
            return
        self._rows[product_id] = seen.row
        self._compare(seen, product_id)

    def _compare(self, seen: Seen, product_id: str) -> None:
        shelf, row = self.shelves.get(product_id), self._rows.get(product_id)
        if shelf is None or row is None or row["version"] != shelf.version:
            open_ = self.history.reopen if seen.place.kind is Kind.ROW else self.history.open
            open_(product_id, seen.now, f"{product_id}: the snapshot is not at the version of its events")
            return
        del self._rows[product_id]
        self.history.settle(product_id)
        state = row["state"]
        self.history.expect(
            state["available"] == shelf.available and dict(state["reserved"]) == shelf.aside,
            lambda: f"{seen.at}: the snapshot of {product_id} says {state['available']}, its history {shelf.available}",
        )


class Reservations:
    """What is set aside for the orders that the fleet fulfils. About 300 bytes for each such order."""

    kinds = frozenset({Kind.EVENT})

    def __init__(self, shared: Shared, stock: Stock) -> None:
        self._stock = stock
        self._wanted: dict[str, dict[str, int]] = {}
        self._reserved: set[str] = set()
        self._over: set[str] = set()
        self.orders = Findings(
            "reservations-equal-orders",
            "a reserved order has all its pieces set aside, a cancelled one none",
            excuse=lambda _: shared.parks_any("chaining-fulfilment", "routing-fulfilment", "deciding-inventory"),
        )

    @property
    def findings(self) -> Sequence[Findings]:
        """The books of its invariants."""
        return (self.orders,)

    def take(self, seen: Seen) -> None:
        """The next event of an order or a product."""
        if (message := seen.message) is None:
            return
        if seen.place == (Kind.EVENT, CATEGORY):
            self._judge(seen, str(message.data.get("order_id", "")))
        elif seen.place == (Kind.EVENT, "orders"):
            self._order(message)
            self._judge(seen, message.subject)

    def _order(self, message: Message) -> None:
        order_id, data = message.subject, message.data
        match message.fact:
            case "order.created" if data.get("fulfil"):
                wanted = self._wanted.setdefault(order_id, {})
                for item in data["items"]:
                    wanted[item["product_id"]] = wanted.get(item["product_id"], 0) + item["quantity"]
            case "order.inventory-reserved":
                self._reserved.add(order_id)
            case "order.cancelled":
                self._over.add(order_id)

    def _judge(self, seen: Seen, order_id: str) -> None:
        wanted = self._wanted.get(order_id)
        if wanted is None:
            return
        self.orders.checked += 1
        aside = {product_id: self._stock.aside(product_id, order_id) for product_id in wanted}
        if order_id in self._over:
            right = not any(aside.values())
        elif order_id in self._reserved:
            right = aside == wanted
        else:
            right = all(pieces in (0, wanted[product_id]) for product_id, pieces in aside.items())
        if right:
            self.orders.settle(order_id)
            return
        state = "cancelled" if order_id in self._over else "reserved" if order_id in self._reserved else "created"
        self.orders.open(order_id, seen.now, f"{order_id} is {state} and wants {wanted}, set aside are {aside}")
