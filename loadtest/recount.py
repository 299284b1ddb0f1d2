"""The recount: reads the raw event log and the views, and says where they disagree.

It shares no code with the aggregate or the projection: it reads the JSON of the log itself, with rules of its own.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import aiohttp
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

PAGE_ROWS = 500
EXAMPLES = 20
READ_TIMEOUT_MS = 500
STALLS_MAX = 40

STATUS_AFTER = {
    "order.created.v1": "created",
    "order.payment-processed.v1": "paid",
    "order.shipped.v1": "shipped",
    "order.delivered.v1": "delivered",
    "order.cancelled.v1": "cancelled",
}
TIME_OF = {
    "order.created.v1": "created_at",
    "order.payment-processed.v1": "paid_at",
    "order.shipped.v1": "shipped_at",
    "order.delivered.v1": "delivered_at",
    "order.cancelled.v1": "cancelled_at",
}
COMPARED = ("version", "status", "total", "customer_id", "customer_name", "items", *TIME_OF.values())


@dataclass
class Recount:
    """What the log says, and what is wrong with it or with the view.

    `events`, `statuses` and `orders` are those of one run (orders whose ids begin with its name); `log_events` counts
    all. Checked is everything.
    """

    log_events: int = 0
    events: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    orders: int = 0
    mismatch_count: int = 0
    examples: list[str] = field(default_factory=list)
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)

    def mismatch(self, text: str) -> None:
        """Note something that must not be."""
        self.mismatch_count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(text)


def count(values: Iterable[tuple[int, bytes]], run: str = "") -> Recount:
    """Recount events, given as (partition, record value) in log order."""
    recount = Recount()
    ids: set[str] = set()
    homes: dict[str, int] = {}
    for partition, value in values:
        event = json.loads(value)
        recount.log_events += 1
        if event["subject"].startswith(run):
            recount.events[event["type"]] += 1
        if event["id"] in ids:
            recount.mismatch(f"event id {event['id']} stands twice in the log")
        ids.add(event["id"])
        if homes.setdefault(event["subject"], partition) != partition:
            recount.mismatch(f"{event['subject']} has events in two partitions")
        _apply(recount, event)
    of_run = [row for order_id, row in recount.rows.items() if order_id.startswith(run)]
    recount.orders = len(of_run)
    recount.statuses.update(row["status"] for row in of_run)
    return recount


def _apply(recount: Recount, event: dict[str, Any]) -> None:
    order_id, kind, data = event["subject"], event["type"], event["data"]
    row = recount.rows.setdefault(order_id, {"version": 0, "status": "new"})
    if event["version"] != row["version"] + 1:
        recount.mismatch(f"{order_id}: version {event['version']} stands after version {row['version']}")
    row["version"] = event["version"]
    if kind in STATUS_AFTER:
        row["status"] = STATUS_AFTER[kind]
        row[TIME_OF[kind]] = event["time"]
    if kind == "order.created.v1":
        total = sum((Decimal(item["price"]) * item["quantity"] for item in data["items"]), Decimal(0))
        if total != Decimal(data["total"]):
            recount.mismatch(f"{order_id}: the total is {data['total']}, the items come to {total}")
        row |= {name: data[name] for name in ("total", "customer_id", "customer_name", "items")}


def compare(recount: Recount, view: dict[str, dict[str, Any]]) -> None:
    """Note every row of the view that is not as the log says, field by field."""
    for order_id in sorted(recount.rows.keys() | view.keys()):
        said, seen = recount.rows.get(order_id), view.get(order_id)
        if said is None or seen is None:
            recount.mismatch(
                f"{order_id} is {'missing in the view' if seen is None else 'in the view but not in the log'}"
            )
            continue
        for name in COMPARED:
            if said.get(name) != seen.get(name):
                recount.mismatch(f"{order_id}: the view says {name}={seen.get(name)!r}, the log {said.get(name)!r}")


async def read_log(brokers: str, topic: str, partitions: int) -> list[tuple[int, bytes]]:
    """Every settled record of the topic, as (partition, value), in log order; bounded by its present end."""
    consumer: Any = AIOKafkaConsumer(
        bootstrap_servers=brokers,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=4 << 20,
    )
    await consumer.start()
    try:
        assigned = [TopicPartition(topic, number) for number in range(partitions)]
        consumer.assign(assigned)
        ends = await consumer.end_offsets(assigned)
        found: list[tuple[int, bytes]] = []
        stalls = 0
        while any([await consumer.position(partition) < end for partition, end in ends.items()]):
            fetched = await consumer.getmany(timeout_ms=READ_TIMEOUT_MS, max_records=20_000)
            stalls = 0 if fetched else stalls + 1
            if stalls > STALLS_MAX:
                raise TimeoutError(f"{topic} cannot be read to its end: a transaction is open, or brokers are away")
            found += [(partition.partition, r.value) for partition, records in fetched.items() for r in records]
        return found
    finally:
        await consumer.stop()


async def read_view(urls: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Every row of the order view, page by page, from one worker after the other."""
    rows: dict[str, dict[str, Any]] = {}
    async with aiohttp.ClientSession() as session:
        after: str | None = ""
        page = 0
        while after is not None:
            params = {"limit": str(PAGE_ROWS)} | ({"after": after} if after else {})
            async with session.get(f"{urls[page % len(urls)]}/orders", params=params) as answer:
                answer.raise_for_status()
                body = await answer.json()
            rows |= {row["order_id"]: row for row in body["items"]}
            after = body["next"]
            page += 1
    return rows


async def recount(brokers: str, topic: str, partitions: int, urls: Sequence[str], *, run: str = "") -> Recount:
    """Recount the log, and compare the view with it."""
    found = count(await read_log(brokers, topic, partitions), run)
    compare(found, await read_view(urls))
    return found
