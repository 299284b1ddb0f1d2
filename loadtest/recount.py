"""The recount: reads the raw event log, the outcomes and the views, and says where they disagree.

It shares no code with the aggregate or the projection: it reads the JSON of the log itself, with rules of its own.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from loadtest.reading import Raw, read_topic, read_view

EXAMPLES = 20
SETTLE_TIMEOUT_S = 20.0
SETTLE_EVERY_S = 1.0


@dataclass(frozen=True)
class _Step:
    """What an event does to an order: from which statuses it may come, to which it leads, and what it leaves behind."""

    before: tuple[str, ...]
    after: str | None = None
    time: str | None = None
    kept: tuple[tuple[str, str], ...] = ()


_OF_CREATED = ("total", "customer_id", "customer_name", "customer_email", "items")
STEPS = {
    "order.created.v1": _Step(("new",), "created", "created_at", tuple((name, name) for name in _OF_CREATED)),
    "order.inventory-reserved.v1": _Step(("created", "paid"), None, "reserved_at"),
    "order.payment-requested.v1": _Step(("created",), None, "payment_requested_at"),
    "order.payment-failed.v1": _Step(("created",)),
    "order.payment-processed.v1": _Step(("created",), "paid", "paid_at"),
    "order.shipped.v1": _Step(("paid",), "shipped", "shipped_at", (("tracking_number", "tracking_number"),)),
    "order.delivered.v1": _Step(("shipped",), "delivered", "delivered_at"),
    "order.cancelled.v1": _Step(("created", "paid"), "cancelled", "cancelled_at", (("cancel_reason", "reason"),)),
    "order.refund-requested.v1": _Step(("cancelled",), None, "refund_requested_at"),
}
COMPARED = (
    *("version", "status", *_OF_CREATED, "tracking_number", "cancel_reason", "failed_payments"),
    *(step.time for step in STEPS.values() if step.time is not None),
)


@dataclass
class Recount:
    """What the log says, and what is wrong with it or with the view.

    `events`, `statuses`, `orders` and `outcomes` are those of one run (orders whose ids begin with its name);
    `log_events` counts all. Checked is everything. `may_mend` counts those mismatches that a view or a partition which
    is a moment behind would show as well.
    """

    run: str = ""
    log_events: int = 0
    events: Counter[str] = field(default_factory=Counter)
    outcomes: int = 0
    mismatch_count: int = 0
    may_mend: int = 0
    examples: list[str] = field(default_factory=list)
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    _partitions: dict[str, int] = field(default_factory=dict)
    _event_ids: dict[str, str] = field(default_factory=dict)
    _command_ids: set[str] = field(default_factory=set)
    _claimed: dict[str, str] = field(default_factory=dict)

    @property
    def statuses(self) -> Counter[str]:
        """How many of the run's orders stand where."""
        return Counter(row["status"] for order_id, row in self.rows.items() if order_id.startswith(self.run))

    @property
    def orders(self) -> int:
        """How many orders the run has made."""
        return sum(self.statuses.values())

    def mismatch(self, text: str, *, may_mend: bool = False) -> None:
        """Note something that must not be."""
        self.mismatch_count += 1
        self.may_mend += may_mend
        if len(self.examples) < EXAMPLES:
            self.examples.append(text)

    def event(self, raw: Raw) -> None:
        """Take the next record of the events topic, in log order."""
        self.log_events += 1
        try:
            self._event(raw, json.loads(raw.value or b""))
        except (ValueError, KeyError, TypeError, ArithmeticError, AttributeError) as error:
            self.mismatch(f"the record at {raw.partition}:{raw.offset} of the events is no order's event: {error!r}")

    def _event(self, raw: Raw, event: dict[str, Any]) -> None:
        order_id, kind = event["subject"], event["type"]
        if order_id.startswith(self.run):
            self.events[kind] += 1
        if event["id"] in self._event_ids:
            self.mismatch(f"event id {event['id']} stands twice in the log")
        self._event_ids[event["id"]] = order_id
        if (raw.key or b"").decode() != order_id or event["data"]["order_id"] != order_id:
            self.mismatch(f"{order_id}: an event has the key {raw.key!r} and is about {event['data']['order_id']}")
        if self._partitions.setdefault(order_id, raw.partition) != raw.partition:
            self.mismatch(f"{order_id} has events in two partitions")
        self._apply(order_id, kind, event)

    def _apply(self, order_id: str, kind: str, event: dict[str, Any]) -> None:
        row = self.rows.setdefault(order_id, {"version": 0, "status": "new", "failed_payments": 0})
        if event["version"] != row["version"] + 1:
            self.mismatch(f"{order_id}: version {event['version']} stands after version {row['version']}")
        step, data = STEPS[kind], event["data"]
        if row["status"] not in step.before:
            self.mismatch(f"{order_id}: {kind} stands after the order was {row['status']}")
        row["version"] = event["version"]
        row["status"] = step.after or row["status"]
        row["failed_payments"] += kind == "order.payment-failed.v1"
        if step.time is not None:
            row[step.time] = event["time"]
        row |= {name: data[told] for name, told in step.kept}
        if kind == "order.created.v1":
            self._check_total(order_id, data)

    def _check_total(self, order_id: str, data: dict[str, Any]) -> None:
        total = sum((Decimal(item["price"]) * item["quantity"] for item in data["items"]), Decimal(0))
        if total != Decimal(data["total"]):
            self.mismatch(f"{order_id}: the total is {data['total']}, the items come to {total}")

    def outcome(self, raw: Raw) -> None:
        """Take the next record of the outcomes topic."""
        try:
            outcome = json.loads(raw.value or b"")["data"]
            command_id, events = outcome["command_id"], outcome.get("events", [])
            self.outcomes += outcome["stream_id"].startswith(self.run)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self.mismatch(f"the record at {raw.partition}:{raw.offset} of the outcomes is no outcome: {error!r}")
            return
        if command_id in self._command_ids:
            self.mismatch(f"{command_id} has two outcomes in the log")
        self._command_ids.add(command_id)
        if events and outcome.get("rejected"):
            self.mismatch(f"{command_id} was rejected, and has events")
        self._claimed |= dict.fromkeys(events, command_id)

    def match(self) -> None:
        """Hold outcomes against events, once both are read: every event of the run was caused by one command."""
        for event_id, command_id in self._claimed.items():
            if event_id not in self._event_ids:
                self.mismatch(f"{command_id} was accepted, but its event {event_id} is not in the log", may_mend=True)
        for event_id, order_id in self._event_ids.items():
            if order_id.startswith(self.run) and event_id not in self._claimed:
                self.mismatch(f"{order_id}: no command's outcome names the event {event_id}", may_mend=True)

    def compare(self, view: dict[str, dict[str, Any]]) -> None:
        """Note every row of the view that is not as the log says, field by field."""
        for order_id in sorted(self.rows.keys() | view.keys()):
            said, seen = self.rows.get(order_id), view.get(order_id)
            if said is None or seen is None:
                where = "missing in the view" if seen is None else "in the view but not in the log"
                self.mismatch(f"{order_id} is {where}", may_mend=True)
                continue
            # Two versions are two moments; two rows of one version must be the same, now and for ever.
            other = said["version"] != seen.get("version")
            for name in COMPARED:
                default = 0 if name == "failed_payments" else None
                if said.get(name, default) != seen.get(name, default):
                    text = f"the view says {name}={seen.get(name)!r}, the log {said.get(name)!r}"
                    self.mismatch(f"{order_id}: {text}", may_mend=other)


async def recount(
    brokers: str, topic: str, partitions: int, urls: Sequence[str], *, outcomes: str | None = None, run: str = ""
) -> Recount:
    """Recount the log, and compare the view with it; where outcomes are named, hold them against the log as well.

    Readers of several partitions and of a view see one moment of each, not the same one. What may be such a
    difference is looked at again, until it is gone or has stayed for `SETTLE_TIMEOUT_S`.
    """
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    while True:
        found = Recount(run)
        if outcomes is not None:
            async for raw in read_topic(brokers, outcomes, partitions):
                found.outcome(raw)
        async for raw in read_topic(brokers, topic, partitions):
            found.event(raw)
        if outcomes is not None:
            found.match()
        found.compare(await read_view(urls))
        if found.may_mend < found.mismatch_count or not found.may_mend or time.monotonic() > deadline:
            return found
        await asyncio.sleep(SETTLE_EVERY_S)
