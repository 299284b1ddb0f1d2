"""The read models that are made of many orders: by day, by customer, and each customer's orders."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from app.audit.checker import Shared
from app.audit.findings import Findings
from app.audit.orders import CATEGORY, CREATED, Orders, moment
from app.audit.records import Kind, Message, Seen
from app.audit.rows import Rows

PAID, REFUNDED = "order.payment-processed", "order.refund-requested"
_LENGTH_BYTES, _PLACE_BYTES = 2, 8
BEGINNING = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class Day:
    """One day's part in one partition: the sums after each event that no row has been compared with yet."""

    count: int = 0
    total: Decimal = Decimal(0)
    later: deque[tuple[int, Decimal]] = field(default_factory=deque)


class OrdersByDay:
    """Part by part: a row with n events in it is the sum of the partition's first n orders of that day."""

    kinds = frozenset({Kind.EVENT, Kind.ROW})

    def __init__(self, shared: Shared) -> None:
        self._days: dict[tuple[int, str], Day] = {}
        self._ahead: dict[tuple[int, str], tuple[int, Any]] = {}
        self.days = Findings(
            "days-equal-orders",
            "the orders by day are the sums of the orders, to the cent",
            excuse=lambda _: shared.parks_any("projecting-orders-by-day"),
        )
        self._rows = Rows(self.days, "projecting-orders-by-day", "orders-by-day")

    @property
    def findings(self) -> Sequence[Findings]:
        """The books of its invariants."""
        return (self.days,)

    def take(self, seen: Seen) -> None:
        """The next order or row."""
        if self._rows.is_row(seen):
            key = (seen.partition, seen.row_key.decode(errors="replace"))
            version = self._rows.put(seen, key)
            if version is not None:
                self._row(seen, key, version)
        elif seen.place == (Kind.EVENT, CATEGORY) and seen.message is not None and seen.message.fact == CREATED:
            self._order(seen, seen.message)

    def _order(self, seen: Seen, message: Message) -> None:
        key = (seen.partition, moment(message.time).date().isoformat())
        day = self._days.setdefault(key, Day())
        day.count += 1
        day.total += Decimal(message.data["total"])
        day.later.append((day.count, day.total))
        self._rows.compare(seen, key, day.count, lambda row: _day_differs(row, key[1], day.count, day.total))

    def _row(self, seen: Seen, key: tuple[int, str], version: int) -> None:
        """Rows that lag behind can be compared all the same: their events are the first ones."""
        day = self._days.get(key, Day())
        while day.later and day.later[0][0] < version:
            day.later.popleft()
        if day.later and day.later[0][0] == version < day.count:
            count, total = day.later[0]
            self._rows.check(seen, key, seen.row["row"], lambda row: _day_differs(row, key[1], count, total))
        self._rows.compare(seen, key, day.count, lambda row: _day_differs(row, key[1], day.count, day.total))


def _day_differs(row: Mapping[str, Any], day: str, count: int, total: Decimal) -> list[str]:
    same = {
        "day": row["day"] == day,
        f"count ({row['count']}, not {count})": row["count"] == count,
        f"total ({row['total']}, not {total})": Decimal(row["total"]) == total,
    }
    return [name for name, is_same in same.items() if not is_same]


@dataclass(slots=True)
class Buyer:
    """One customer: what was ordered, paid, and asked back."""

    events: int = 0
    orders: int = 0
    spent: Decimal = Decimal(0)
    last: tuple[datetime, str, str] = (BEGINNING, "", "")

    def apply(self, message: Message) -> None:
        """The next event that matters, of any order."""
        self.events += 1
        if message.fact == CREATED:
            self.orders += 1
            self.last = max(self.last, (moment(message.time), message.subject, str(message.data["customer_name"])))
        else:
            amount = Decimal(message.data["amount"])
            self.spent += amount if message.fact == PAID else -amount

    def differences(self, row: Mapping[str, Any]) -> list[str]:
        """In what the row of as many events differs."""
        at, order_id, name = self.last
        same = {
            f"orders ({row['orders']}, not {self.orders})": row["orders"] == self.orders,
            f"spent ({row['spent']}, not {self.spent})": Decimal(row["spent"]) == self.spent,
            "last order": (moment(row["last_order_at"]), row["last_order_id"], row["name"]) == (at, order_id, name),
        }
        return [name for name, is_same in same.items() if not is_same]


class Customers:
    """Row for row, where as many events are in it as were read. About 600 bytes for each customer who has ordered."""

    kinds = frozenset({Kind.EVENT, Kind.ROW})

    def __init__(self, shared: Shared) -> None:
        self._buyers: dict[str, Buyer] = {}
        self.customers = Findings(
            "customers-equal-orders",
            "what each customer has ordered and spent is the sum of the orders, to the cent",
            excuse=lambda _: shared.parks_any("projecting-customers", "routing-customers"),
        )
        self._rows = Rows(self.customers, "projecting-customers", "customers")

    @property
    def findings(self) -> Sequence[Findings]:
        """The books of its invariants."""
        return (self.customers,)

    def take(self, seen: Seen) -> None:
        """The next event or row."""
        message = seen.message
        if message is not None and seen.place == (Kind.EVENT, CATEGORY):
            if message.fact in (CREATED, PAID, REFUNDED):
                customer = str(message.data["customer_id"])
                self._buyers.setdefault(customer, Buyer()).apply(message)
                self._compare(seen, customer)
        elif self._rows.is_row(seen):
            customer = seen.row_key.decode(errors="replace")
            if self._rows.put(seen, customer) is not None:
                self._compare(seen, customer)

    def _compare(self, seen: Seen, customer: str) -> None:
        buyer = self._buyers.get(customer) or Buyer()
        self._rows.compare(seen, customer, buyer.events, buyer.differences, scattered=True)


class CustomerOrders:
    """Each order stands once in the list of its customer, with what its events come to. 150 bytes for each order."""

    kinds = frozenset({Kind.EVENT, Kind.ROW})

    def __init__(self, shared: Shared, orders: Orders) -> None:
        self._orders = orders.folded
        self._places: dict[str, int] = {}
        self.lists = Findings(
            "customer-orders-equal-orders",
            "each order stands once in its customer's list, as its events say",
            excuse=lambda _: shared.parks_any("projecting-customer-orders", "routing-customer-orders"),
        )
        self._rows = Rows(self.lists, "projecting-customer-orders", "customer-orders")

    @property
    def findings(self) -> Sequence[Findings]:
        """The books of its invariants."""
        return (self.lists,)

    def take(self, seen: Seen) -> None:
        """The next event or row."""
        if seen.place == (Kind.EVENT, CATEGORY) and seen.message is not None:
            self._compare(seen, seen.message.subject)
        elif self._rows.is_row(seen):
            self._row(seen)

    def _row(self, seen: Seen) -> None:
        length = int.from_bytes(seen.row_key[:_LENGTH_BYTES], "big")
        customer = seen.row_key[_LENGTH_BYTES : _LENGTH_BYTES + length].decode(errors="replace")
        order_id = seen.row_key[_LENGTH_BYTES + length + _PLACE_BYTES :].decode(errors="replace")
        self._place(seen, order_id)
        if seen.row is not None and self._rows.put(seen, order_id) is not None:
            seen.row["row"]["customer_id"] = customer
            self._compare(seen, order_id)

    def _place(self, seen: Seen, order_id: str) -> None:
        place, before = hash(seen.row_key), self._places.get(order_id)
        if seen.row is None:
            if place == before:
                del self._places[order_id]
            self.lists.settle((order_id, place))
            return
        self._places[order_id] = place
        if before not in (None, place):  # it has moved: then its old place is emptied in the same transaction
            self.lists.open((order_id, before), seen.now, f"{seen.at}: {order_id} stands in another place as well")

    def _compare(self, seen: Seen, order_id: str) -> None:
        order = self._orders.get(order_id)

        def differences(row: Mapping[str, Any]) -> list[str]:
            if order is None:
                return ["there is no such order"]
            same = {
                f"customer ({row['customer_id']})": hash(row["customer_id"]) == order.customer,
                "order": row["order_id"] == order_id,
                "status": row["status"] == order.status,
                f"total ({row['total']}, not {order.total})": Decimal(row["total"]) == order.total,
                "time": hash(moment(row["created_at"])) == order.created,
            }
            return [name for name, is_same in same.items() if not is_same]

        self._rows.compare(seen, order_id, order.version if order is not None else 0, differences)
