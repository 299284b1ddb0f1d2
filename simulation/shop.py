"""What must be true of the shop in the end: its stock, its orders, its alerts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from simulation.reading import decided_of, events_of, every_row, messages_of, rows_in

if TYPE_CHECKING:
    from simulation.fleet import Fleet

HIGH_VALUE_ABOVE = 1000


def check_stock(fleet: Fleet) -> None:
    """Stock is its history, and never negative."""
    available: Counter[str] = Counter()
    signs = {"stocked": 1, "reserved": -1, "released": 1}
    for event in decided_of(fleet, "inventory"):
        data = event["data"]
        available[event["subject"]] += signs.get(event["type"].split(".")[1], 0) * data["quantity"]
        if not available[event["subject"]] == data["available"] >= 0:
            seen = f"{event['id']}: {data['available']} is told, {available[event['subject']]} is left"
            fleet.watch.report("stock is its history and never negative", seen)


def check_fulfilment(fleet: Fleet) -> None:
    """Every order that the fleet fulfils has ended: shipped, or cancelled with nothing set aside and all refunded."""
    aside: Counter[str] = Counter()
    for event in decided_of(fleet, "inventory"):
        sign = {"reserved": 1, "released": -1}.get(event["type"].split(".")[1], 0)
        if sign:
            aside[event["data"]["order_id"]] += sign * event["data"]["quantity"]
    types: dict[str, list[str]] = {}
    for event in decided_of(fleet, "orders"):
        if event["type"] == "order.created.v1" and event["data"].get("fulfil"):
            types[event["subject"]] = []
        if event["subject"] in types:
            types[event["subject"]].append(event["type"].split(".")[1])
    for order_id, seen in types.items():
        _check_order(fleet, order_id, seen, aside[order_id])
    instances = rows_in(fleet, "chaining-fulfilment", "instances")
    for order_id in sorted(types.keys() ^ instances.keys()):
        fleet.watch.report("every chain ends", f"{order_id} has no instance, or no order")
    for order_id, instance in instances.items():
        if not instance["finished"]:
            fleet.watch.report("every chain ends", f"{order_id} waits for {instance['waiting_for']}")
    for timer in rows_in(fleet, "chaining-fulfilment", "timers"):
        fleet.watch.report("timers fire once", f"{timer!r} is left")
    _check_standings(fleet, len(instances))


def _check_standings(fleet: Fleet, instances: int) -> None:
    """All instances have finished, none is listed as waiting, and they are counted so."""
    counted: Counter[str] = Counter()
    for standing, count in every_row(fleet, "chaining-fulfilment", "standings"):
        counted[standing] += count
    waiting = rows_in(fleet, "chaining-fulfilment", "waiting")
    if waiting or counted != Counter(finished=instances):
        seen = f"{instances} have finished, {dict(counted)} are counted, {len(waiting)} are listed as waiting"
        fleet.watch.report("chains' standings are counted", seen)


def _check_order(fleet: Fleet, order_id: str, types: list[str], aside: int) -> None:
    seen = f"{order_id}: {', '.join(types)}; {aside} pieces set aside"
    shipped, cancelled = "shipped" in types, "cancelled" in types
    refunded = cancelled and "payment-processed" in types
    repeated = any(types.count(kind) > 1 for kind in types)
    if shipped == cancelled or repeated or (aside > 0) != shipped or ("refund-requested" in types) != refunded:
        fleet.watch.report("every order ends well", seen)


def check_alerts(fleet: Fleet) -> None:
    """Each order of high value is told of once; no alert has another's id."""
    alerts = messages_of(fleet, fleet.topics.alerts)
    _check_unique(fleet, "alerts come once", (alert["id"] for alert in alerts))
    found = Counter(alert["data"]["event_id"] for alert in alerts if alert["data"]["filter"] == "high-value")
    created = [event for event in events_of(fleet, "orders") if event["type"] == "order.created.v1"]
    wanted = Counter(event["id"] for event in created if float(event["data"]["total"]) > HIGH_VALUE_ABOVE)
    if found != wanted:
        fleet.watch.report("alerts come once", f"high-value: {dict(found)}, not {dict(wanted)}")
    promoted = {e["subject"] for e in messages_of(fleet, fleet.topics.events("customers")) if "promoted" in e["type"]}
    of_vips = {event["id"] for event in created if event["data"]["customer_id"] in promoted}
    for alert in alerts:
        if alert["data"]["filter"] == "vip" and alert["data"]["event_id"] not in of_vips:
            fleet.watch.report("alerts come once", f"vip: {alert['id']} is about nobody important")


def _check_unique(fleet: Fleet, invariant: str, ids: Iterable[str]) -> None:
    for id_, count in Counter(ids).items():
        if count > 1:
            fleet.watch.report(invariant, f"{id_} is there {count} times")


def check_windows(fleet: Fleet) -> None:
    """Long after the last event nothing of a window is left that is not final."""
    for agent in fleet.agents:
        gathered = [row for _, row in every_row(fleet, agent.name, "gathered")]
        waiting = list(every_row(fleet, agent.name, "waiting")) if agent.name.startswith("windowing-") else []
        if waiting or any(row["next_due"] for row in gathered):
            fleet.watch.report("windows become final", f"{agent.name} waits")
