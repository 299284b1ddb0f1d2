"""The fleet as a peer: one worker of the role `reads`, as it is deployed, folds the backlog into the read model."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import aiohttp

from app.local.kafka import LocalKafka
from app.local.ports import free_ports
from app.local.processes import wait_until
from app.local.workers import LocalWorker
from app.runtime.ports import TopicPartition
from bench.backlog import EVENTS_PER_ORDER, order_id
from bench.measured import Measured

TIMEOUT_S = 600.0
POLL_S = 0.05
PAGE_ROWS = 1_000


def run_w1(kafka: LocalKafka, directory: Path, ends: dict[TopicPartition, int], events: int) -> Measured:
    """Start the worker, let it fold everything up to `ends`, check each row."""
    worker = LocalWorker(
        "bench-1", "reads", free_ports(1), directory, kafka.brokers, application="bench.one_read_model"
    )
    worker.start(with_parent=True)
    try:
        return _measure(worker, kafka, ends, events)
    finally:
        worker.stop()


def _measure(worker: LocalWorker, kafka: LocalKafka, ends: dict[TopicPartition, int], events: int) -> Measured:
    wanted = {f"{p.topic}/{p.partition}": end for p, end in ends.items()}
    began = (time.perf_counter(), worker.cpu_seconds(), kafka.cpu_seconds())

    def done() -> bool:
        nonlocal began
        now = (time.perf_counter(), worker.cpu_seconds(), kafka.cpu_seconds())
        worker.check_alive()
        positions = _positions(worker.readiness())
        if not any(positions.values()):
            began = now
        return all(positions.get(name, 0) >= end for name, end in wanted.items())

    if not wait_until(done, TIMEOUT_S):
        raise TimeoutError(f"the backlog was not folded within {TIMEOUT_S:.0f} s: {worker.readiness()}")
    seconds, cpu_s = time.perf_counter() - began[0], worker.cpu_seconds() - began[1]
    broker_cpu_s, rss = kafka.cpu_seconds() - began[2], worker.rss_bytes()
    checked = asyncio.run(_check(worker.url, events // EVENTS_PER_ORDER))
    return Measured("us", "W1", events, seconds, cpu_s, rss / 1e6, broker_cpu_s, checked)


def _positions(readiness: dict[str, Any] | None) -> dict[str, int]:
    found: dict[str, int] = {}
    for bucket in (readiness or {}).get("buckets", {}).values():
        found |= bucket["positions"]
    return found


async def _check(url: str, orders: int) -> bool:
    """Whether the views have every order, at its last version, and no other."""
    after, seen = "", 0
    async with aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"{url}/orders", params={"limit": str(PAGE_ROWS), "after": after}) as answer:
                page = await answer.json()
            for row in page["items"]:
                if (
                    row["order_id"] != order_id(seen)
                    or row["version"] != EVENTS_PER_ORDER
                    or row["status"] != "delivered"
                ):
                    return False
                seen += 1
            if page["next"] is None:
                return seen == orders
            after = page["next"]
