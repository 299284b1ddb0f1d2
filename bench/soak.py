"""`python -m bench.soak`: half an hour of steady orders; memory, file handles and latency must stay flat."""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp
import click
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from app.kernel.errors import FleetError
from app.local.workers import LocalWorker
from app.runtime.settings import Settings
from app.runtime.topics import Topics
from bench.fleet import running_fleet
from loadtest.customers import population
from loadtest.drive import drive, run_name
from loadtest.recount import recount
from loadtest.report import json_file
from loadtest.schedule import schedule

TABLE_FILE, ROCKSDB_BYTES = ".sst", "eventfleet_rocksdb_bytes"
GROWTH_MAX = 1.10
HANDLES_MORE_MAX = 16
LATENCY_MAX = 1.5
"""How much more the last third may have than the middle one; the first is for warming up. Shared machines are noisy."""


@dataclass(frozen=True)
class Minute:
    """One minute of it, of all workers together; CPU in percent of a core.

    `rocksdb_mb` of the memory are RocksDB's block cache and memtables, which fill up to their budget. The tables' own
    files are not among the `handles`: RocksDB has some per store, up to `FLEET_OPEN_FILES_MAX`.
    """

    number: int
    commands: int
    memory_mb: float
    rocksdb_mb: float
    handles: int
    table_files: int
    cpu_percent: float
    outcome_p50_ms: float
    outcome_p99_ms: float
    view_p99_ms: float
    mismatches: int


@click.command()
@click.option("--minutes", default=30, show_default=True, type=click.IntRange(3, 24 * 60))
@click.option("--rate", default=40.0, show_default=True, type=click.FloatRange(0.1, 1_000), help="Orders a second.")
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1, 8))
@click.option("--json", "file", type=click.Path(path_type=Path), callback=json_file)
def main(minutes: int, rate: float, workers: int, file: Path | None) -> None:
    """Drive orders minute by minute, and look at the workers after each."""
    try:
        with running_fleet(workers) as (fleet, settings):
            found = [asyncio.run(_minute(fleet, settings, number, rate)) for number in range(minutes)]
            urls = [worker.url for worker in fleet]
            counted = asyncio.run(recount(settings.brokers, Topics().events("orders"), settings.partitions, urls))
    except FleetError as error:
        raise click.ClickException(str(error)) from error
    report = verdict(found) | {"orders": len(counted.rows), "mismatches": counted.mismatch_count}
    report["ok"] = report["flat"] and not counted.mismatch_count and not sum(one.mismatches for one in found)
    Console().print_json(json.dumps(report))
    if file is not None:
        told = {"minutes": [asdict(one) for one in found], **report}
        file.write_text(json.dumps(told, indent=1) + "\n")
    if not report["ok"]:
        raise SystemExit(1)


async def _minute(fleet: Sequence[LocalWorker], settings: Settings, number: int, rate: float) -> Minute:
    cpu = sum(worker.cpu_seconds() for worker in fleet)
    due = schedule(list(population(run_name(), round(60 * rate), seed=number)), rate)
    driven = await drive(due, settings, [worker.url for worker in fleet])
    opened = [file for worker in fleet for file in _open_files(worker)]
    table_files = sum(file.endswith(TABLE_FILE) for file in opened)
    one = Minute(
        number,
        driven.commands,
        round(sum(worker.rss_bytes() for worker in fleet) / 1e6, 1),
        round(sum(await asyncio.gather(*(_rocksdb_bytes(worker.url) for worker in fleet))) / 1e6, 1),
        len(opened) - table_files,
        table_files,
        round((sum(worker.cpu_seconds() for worker in fleet) - cpu) / driven.seconds * 100, 1),
        driven.outcome_latencies.percentile(50) or 0.0,
        driven.outcome_latencies.percentile(99) or 0.0,
        driven.view_latencies.percentile(99) or 0.0,
        len(driven.mismatches),
    )
    table = Table.grid(padding=(0, 2))
    table.add_row(*(f"{name} {value}" for name, value in asdict(one).items()))
    Console(width=200).print(table)
    return one


def _open_files(worker: LocalWorker) -> Iterator[str]:
    for handle in Path(f"/proc/{worker.pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            yield str(handle.readlink())


async def _rocksdb_bytes(url: str) -> float:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as response:
        families = text_string_to_metric_families(await response.text())
    return sum(sample.value for family in families if family.name == ROCKSDB_BYTES for sample in family.samples)


def verdict(minutes: Sequence[Minute]) -> dict[str, Any]:
    """The medians of the middle third beside those of the last, and whether they are flat."""
    third = len(minutes) // 3
    middle, last = minutes[third : 2 * third], minutes[-third:]

    def both(figure: Callable[[Minute], float]) -> tuple[float, float]:
        return statistics.median(map(figure, middle)), statistics.median(map(figure, last))

    memory, handles, p50 = (
        both(lambda one: one.memory_mb),
        both(lambda one: one.handles),
        both(lambda one: one.outcome_p50_ms),
    )
    flat = (
        memory[1] <= memory[0] * GROWTH_MAX
        and handles[1] <= handles[0] + HANDLES_MORE_MAX
        and p50[1] <= p50[0] * LATENCY_MAX
    )
    p99 = both(lambda one: one.outcome_p99_ms)
    told = {"table_files": both(lambda one: one.table_files), "rocksdb_mb": both(lambda one: one.rocksdb_mb)}
    return told | {"flat": flat, "memory_mb": memory, "handles": handles, "outcome_p50_ms": p50, "outcome_p99_ms": p99}


if __name__ == "__main__":
    main()
