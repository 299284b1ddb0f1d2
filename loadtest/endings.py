"""How the orders of a troubled shop have ended: recounted from the raw logs, against what was planned."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from app.runtime.settings import Settings
from app.runtime.topics import Topics
from loadtest.lives import Life
from loadtest.reading import read_topic

SETTLE_TIMEOUT_S = 20.0
SETTLE_EVERY_S = 1.0


@dataclass
class Endings:
    """What the logs say of the planned orders, of their stock and of the alerts."""

    lives: dict[str, Life]
    events: dict[str, list[str]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    refunds: dict[str, Decimal] = field(default_factory=dict)
    shelves: Counter[str] = field(default_factory=Counter)
    stocked: Counter[str] = field(default_factory=Counter)
    aside: dict[tuple[str, str], int] = field(default_factory=dict)
    alerts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def order_event(self, told: dict[str, Any]) -> None:
        """The next event of the orders."""
        order_id, kind = told["subject"], told["type"].split(".")[1]
        if order_id not in self.lives:
            return
        self.events.setdefault(order_id, []).append(kind)
        if kind == "cancelled":
            self.reasons[order_id] = told["data"]["reason"]
        if kind == "refund-requested":
            self.refunds[order_id] = Decimal(told["data"]["amount"])

    def stock_event(self, told: dict[str, Any]) -> None:
        """The next event of the stock."""
        product, kind, data = told["subject"], told["type"].split(".")[1], told["data"]
        quantity = int(data["quantity"])
        match kind:
            case "stocked":
                self.stocked[product] += quantity
                self.shelves[product] += quantity
            case "reserved":
                self.shelves[product] -= quantity
                self.aside[product, data["order_id"]] = quantity
            case "released":
                self.shelves[product] += quantity
                self.aside.pop((product, data["order_id"]), None)

    def alert(self, told: dict[str, Any]) -> None:
        """The next alert."""
        if told["data"]["stream_id"] in self.lives:
            self.alerts[told["data"]["filter"], told["data"]["stream_id"]] += 1

    def mismatches(self) -> list[str]:
        """Everything that is not as it was planned."""
        return [*self._of_orders(), *self._of_stock(), *self._of_alerts()]

    def by_habit(self) -> dict[str, dict[str, int]]:
        """How the orders of each kind of customer have ended."""
        found: dict[str, Counter[str]] = {}
        for order_id, life in self.lives.items():
            events = self.events.get(order_id, [])
            end = next((end for end in ("refund-requested", "cancelled", "delivered") if end in events), "open")
            found.setdefault(str(life.habit), Counter())[{"refund-requested": "refunded"}.get(end, end)] += 1
        return {habit: dict(sorted(ends.items())) for habit, ends in sorted(found.items())}

    def alerts_by_filter(self) -> dict[str, int]:
        """How many orders each filter has told of."""
        found: Counter[str] = Counter()
        for (name, _), count in self.alerts.items():
            found[name] += count
        return dict(sorted(found.items()))

    def _of_orders(self) -> list[str]:
        found = []
        for order_id, life in self.lives.items():
            wrong = life.wrong_end(self.events.get(order_id, []), self.reasons.get(order_id, ""))
            if wrong is not None:
                found.append(f"{order_id}, whose customer {life.habit}: {wrong}")
            if (refund := self.refunds.get(order_id)) not in (None, life.total):
                found.append(f"{order_id}: {refund} is refunded, {life.total} was paid")
        return found

    def _of_stock(self) -> list[str]:
        found = []
        for life in self.lives.values():
            delivered = "delivered" in self.events.get(life.order_id, ())
            for item in life.create.items:
                aside = self.aside.get((item.product_id, life.order_id), 0)
                if aside != (item.quantity if delivered else 0):
                    found.append(f"{life.order_id}: {aside} of {item.product_id} are set aside, {delivered=}")
        aside_of: Counter[str] = Counter()
        for (product, _), quantity in self.aside.items():
            aside_of[product] += quantity
        found += [
            f"{product}: {self.shelves[product]} are there and {aside_of[product]} set aside, of {stocked}"
            for product, stocked in self.stocked.items()
            if self.shelves[product] + aside_of[product] != stocked or self.shelves[product] < 0
        ]
        return found

    def _of_alerts(self) -> list[str]:
        wanted = Counter({(name, life.order_id): 1 for life in self.lives.values() for name in life.alerts})
        names = sorted(wanted.keys() | self.alerts.keys())
        return [
            f"{order_id}: {self.alerts[name, order_id]} alerts of {name}, not {wanted[name, order_id]}"
            for name, order_id in names
            if self.alerts[name, order_id] != wanted[name, order_id]
        ]


async def recount_endings(settings: Settings, lives: Sequence[Life]) -> Endings:
    """Recount the logs. What is a moment behind is looked at again, until it is there or the time is over."""
    topics, deadline = Topics(settings.topic_prefix), time.monotonic() + SETTLE_TIMEOUT_S
    while True:
        found = Endings({life.order_id: life for life in lives})
        for topic, take in (
            (topics.events("orders"), found.order_event),
            (topics.events("inventory"), found.stock_event),
            (topics.alerts, found.alert),
        ):
            async for raw in read_topic(settings.brokers, topic, settings.partitions):
                take(json.loads(raw.value or b""))
        if not found.mismatches() or time.monotonic() > deadline:
            return found
        await asyncio.sleep(SETTLE_EVERY_S)
