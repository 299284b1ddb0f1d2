"""`python -m bench.overload`: ten times what the fleet can do, for a minute; memory, answers, and whether it drains."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from app.kernel.errors import FleetError
from app.local.processes import wait_until
from app.local.workers import LocalWorker
from app.runtime.settings import Settings
from app.runtime.topics import Topics
from bench.fleet import running_fleet
from bench.flood import Client, Flood
from loadtest.recount import recount
from loadtest.report import json_file

CLIENTS = 64
CALIBRATION_S = 8.0
DRAIN_TIMEOUT_S = 120.0
SAMPLE_EVERY_S = 0.5


@dataclass
class Memory:
    """Resident memory of the workers over time, in MB: (seconds since the beginning, the largest worker's)."""

    samples: list[tuple[float, float]] = field(default_factory=list)

    def between(self, begin_s: float, end_s: float) -> float:
        """The most in an interval."""
        return max((mb for at, mb in self.samples if begin_s <= at <= end_s), default=0.0)


@click.command()
@click.option("--times", default=10.0, show_default=True, type=click.FloatRange(1.0, 100.0))
@click.option("--seconds", default=60.0, show_default=True, type=click.FloatRange(5.0, 600.0))
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1, 4))
@click.option("--json", "file", type=click.Path(path_type=Path), callback=json_file)
def main(times: float, seconds: float, workers: int, file: Path | None) -> None:
    """Find the sustainable rate of commands over HTTP, then offer a multiple of it."""
    try:
        with running_fleet(workers) as (fleet, settings):
            report = _measure(fleet, settings, times, seconds)
    except FleetError as error:
        raise click.ClickException(str(error)) from error
    _show(report)
    if file is not None:
        file.write_text(json.dumps(report, indent=1) + "\n")


def _measure(fleet: list[LocalWorker], settings: Settings, times: float, seconds: float) -> dict[str, Any]:
    hosts = [worker.url.removeprefix("http://") for worker in fleet]
    memory, done, began = Memory(), threading.Event(), time.monotonic()

    def sample() -> None:
        while not done.wait(SAMPLE_EVERY_S):
            memory.samples.append((time.monotonic() - began, max(w.rss_bytes() for w in fleet) / 1e6))

    sampling = threading.Thread(target=sample, daemon=True)
    sampling.start()
    try:
        asyncio.run(Client(hosts, "warm").closed(CLIENTS, CALIBRATION_S / 2))
        calm = asyncio.run(Client(hosts, "calm").closed(CLIENTS, CALIBRATION_S))
        sustainable = _accepted(calm) / calm.seconds
        before_mb = memory.between(0, time.monotonic() - began)
        flood_s = time.monotonic() - began
        flood = asyncio.run(Client(hosts, "flood").opened(sustainable * times, seconds))
        during_mb = memory.between(flood_s, time.monotonic() - began)
        drained_s = _drain(fleet)
        after = asyncio.run(Client(hosts, "after").closed(CLIENTS, CALIBRATION_S))
        urls = [worker.url for worker in fleet]
        found = asyncio.run(
            recount(settings.brokers, Topics().events("orders"), settings.partitions, urls, run="flood")
        )
    finally:
        done.set()
        sampling.join()
    return {
        "sustainable_per_s": round(sustainable),
        "offered_per_s": round((flood.offered + flood.crowded_out) / flood.seconds),
        "sent": flood.offered,
        "crowded_out_at_the_client": flood.crowded_out,
        "answers": {str(status): count for status, count in sorted(flood.statuses.items())},
        "latency_ms": {
            str(status): {"p50": flood.percentile_ms(status, 0.5), "p99": flood.percentile_ms(status, 0.99)}
            for status in sorted(flood.latencies_s)
        },
        "not_answered": flood.statuses[0],
        "503_without_retry_after": flood.without_retry_after,
        "accepted_per_s": round(_accepted(flood) / flood.seconds),
        "worker_mb": {"before": round(before_mb), "during": round(during_mb)},
        "drained_s": drained_s,
        "after_per_s": round(_accepted(after) / after.seconds),
        "orders_in_the_log": found.orders,
        "mismatches": found.mismatch_count,
    }


def _accepted(flood: Flood) -> int:
    return flood.statuses[200] + flood.statuses[201]


def _drain(fleet: list[LocalWorker]) -> float | None:
    """Seconds until nothing waits any more."""
    began = time.monotonic()

    def calm() -> bool:
        told = [worker.readiness() or {} for worker in fleet]
        return all(one.get("ready") and one.get("lag") == 0 for one in told)

    return round(time.monotonic() - began, 1) if wait_until(calm, DRAIN_TIMEOUT_S) else None


def _show(report: dict[str, Any]) -> None:
    table = Table(show_header=False)
    for name, value in report.items():
        table.add_row(name, json.dumps(value))
    Console().print(table)


if __name__ == "__main__":
    main()
