"""Alerts: one for each event that a filter must pick, and for no other."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from app.audit.checker import Shared
from app.audit.findings import Findings
from app.audit.records import Kind, Message, Seen

HIGH_VALUE, VIP = "high-value", "vip"
HIGH_VALUE_ABOVE = Decimal(1000)
KNOWN_FOR = timedelta(minutes=5)
"""A filter's own copy of the customers may lag behind the orders: one promoted shortly before need not be known yet."""

Alert = tuple[str, str]
"""Filter and event id."""


class Alerts:
    """About 200 bytes for each alert, and for each order of a very important customer."""

    kinds = frozenset({Kind.EVENT, Kind.ALERT})

    def __init__(self, shared: Shared) -> None:
        self._raised: set[Alert] = set()
        self._due: set[Alert] = set()
        self._may: set[Alert] = set()
        self._promoted: dict[str, datetime] = {}
        self._orders: dict[str, list[tuple[str, datetime]]] = {}
        self.alerts = Findings(
            "alerts-exactly-once",
            "each event that a filter must pick has one alert, others have none",
            excuse=lambda _: shared.parks_any(
                *(f"{agent}-{name}" for agent in ("alerting", "routing") for name in (HIGH_VALUE, VIP))
            ),
        )

    @property
    def findings(self) -> Sequence[Findings]:
        """The books of its invariants."""
        return (self.alerts,)

    def take(self, seen: Seen) -> None:
        """The next event or alert."""
        if (message := seen.message) is None:
            return
        if seen.place.kind is Kind.ALERT:
            self._alert(seen, message)
        elif message.fact == "order.created":
            self._order(seen, message)
        elif message.fact == "customer.promoted":
            promoted = self._promoted.setdefault(message.subject, datetime.fromisoformat(message.time))
            for event_id, ordered in self._orders.pop(message.subject, ()):
                self._vip(seen, event_id, promoted, ordered)

    def _alert(self, seen: Seen, message: Message) -> None:
        alert = str(message.data.get("filter")), str(message.data.get("event_id"))
        if self.alerts.expect(alert not in self._raised, lambda: f"{seen.at}: {alert[0]} told of {alert[1]} twice"):
            self._raised.add(alert)
            self._match(seen, alert)

    def _order(self, seen: Seen, message: Message) -> None:
        if Decimal(message.data["total"]) > HIGH_VALUE_ABOVE:
            self._due.add((HIGH_VALUE, message.id))
            self._match(seen, (HIGH_VALUE, message.id))
        customer, ordered = str(message.data["customer_id"]), datetime.fromisoformat(message.time)
        if customer in self._promoted:
            self._vip(seen, message.id, self._promoted[customer], ordered)
        else:
            self._orders.setdefault(customer, []).append((message.id, ordered))

    def _vip(self, seen: Seen, event_id: str, promoted: datetime, ordered: datetime) -> None:
        (self._due if promoted + KNOWN_FOR < ordered else self._may).add((VIP, event_id))
        self._match(seen, (VIP, event_id))

    def _match(self, seen: Seen, alert: Alert) -> None:
        self.alerts.checked += 1
        raised, due = alert in self._raised, alert in self._due
        if raised == due or alert in self._may or alert[0] not in (HIGH_VALUE, VIP):
            self.alerts.settle(alert)
            return
        said = "did not tell of it" if due else "told of it unasked"
        self.alerts.open(alert, seen.now, f"the event {alert[1]}: the filter {alert[0]} {said}")
