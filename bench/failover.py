"""`python -m bench.failover`: how long partitions stop when workers are killed, leave, join or restart in turn."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from app.catalogue import CATALOGUE
from app.kernel.errors import FleetError
from app.local.errors import LocalFleetError
from app.local.kafka import LocalKafka
from app.local.ports import free_ports
from app.local.workers import LocalWorker
from app.runtime.kafka.admin import ensure_topics
from app.runtime.settings import Settings
from app.runtime.topics import Topics
from bench.watch import Watch, watching
from loadtest.recount import recount
from loadtest.report import json_file

READY_TIMEOUT_S = 60.0
CALM_S = 3.0
SETTLED_S = 6.0


class Scenes:
    """Two workers of the role `all`, and what happens to them while customers watch."""

    def __init__(self, directory: Path, kafka: LocalKafka, settings: Settings) -> None:
        self.settings = settings
        port = free_ports(2)
        told = {"FLEET_SESSION_TIMEOUT": str(settings.session_timeout)}
        self.workers = [
            LocalWorker(f"w{n}", "all", port + n, directory, kafka.brokers, settings=told) for n in range(2)
        ]
        self.killed_s: list[float] = []
        self.leave_s: list[float] = []
        self.join_s: list[float] = []

    @property
    def urls(self) -> list[str]:
        """Where the workers are."""
        return [worker.url for worker in self.workers]

    async def up(self) -> None:
        """Start whoever does not run, and wait until all serve their share and stand by for the rest."""
        for worker in self.workers:
            worker.start(with_parent=True)
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not await asyncio.to_thread(self._settled):
            if time.monotonic() > deadline:
                raise LocalFleetError("the workers did not become ready in time")
            await asyncio.sleep(0.05)

    def _settled(self) -> bool:
        told = [worker.readiness() or {} for worker in self.workers]
        served = sum(len(one.get("buckets", {})) for one in told)
        warm = sum(standby["caught_up"] for one in told for standby in one.get("standbys", {}).values())
        return all(one.get("ready") for one in told) and served == warm == self.settings.buckets

    def partitions_of(self, worker: LocalWorker) -> set[int]:
        """What it serves now."""
        buckets = {int(bucket) for bucket in (worker.readiness() or {}).get("buckets", {})}
        return {number for number in range(self.settings.partitions) if number % self.settings.buckets in buckets}

    async def kill(self, watch: Watch) -> None:
        """kill -9, and wait until the others serve everything; then it comes back."""
        victim = self.workers[0]
        lost, pid = self.partitions_of(victim), victim.pid
        if pid is None:
            raise LocalFleetError(f"{victim.name} does not run")
        moment = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        deadline = moment + READY_TIMEOUT_S
        while any(watch.first_after(number, moment + 0.05) is None for number in lost):
            if time.monotonic() > deadline:
                raise LocalFleetError("a killed worker's partitions are not served again")
            await asyncio.sleep(0.05)
        self.killed_s.append(max((watch.first_after(n, moment + 0.05) or deadline) - moment for n in lost))
        await asyncio.to_thread(victim.stop)
        await self.up()

    async def leave_and_join(self, watch: Watch) -> None:
        """SIGTERM, then start again: how long the other worker's own partitions stop."""
        leaver, other = self.workers
        kept = self.partitions_of(other)
        begin = time.monotonic()
        await asyncio.to_thread(leaver.stop)
        await asyncio.sleep(SETTLED_S)
        self.leave_s += [watch.longest_stop(n, begin, time.monotonic()) for n in kept]
        begin = time.monotonic()
        await self.up()
        await asyncio.sleep(SETTLED_S)
        unmoved = self.partitions_of(other)
        self.join_s += [watch.longest_stop(n, begin, time.monotonic()) for n in unmoved]

    async def rolling_restart(self, watch: Watch) -> None:
        """One after the other, as a rolling update does."""
        for worker in self.workers:
            await asyncio.to_thread(worker.stop)
            await self.up()
            await asyncio.sleep(CALM_S)


@click.command()
@click.option("--runs", default=3, show_default=True, type=click.IntRange(1, 20))
@click.option("--session-timeout", default=6.0, show_default=True, type=click.FloatRange(1.0, 60.0))
@click.option("--json", "file", type=click.Path(path_type=Path), callback=json_file)
def main(runs: int, session_timeout: float, file: Path | None) -> None:
    """Measure failover, leaving and joining, and a rolling restart, each under load."""
    directory = Path(tempfile.mkdtemp(prefix="eventfleet-failover-"))
    kafka = LocalKafka(directory / "kafka", free_ports(2))
    try:
        kafka.start(with_parent=True)
        settings = Settings(brokers=kafka.brokers, session_timeout=session_timeout)
        report = asyncio.run(_measure(directory, kafka, settings, runs))
    except FleetError as error:
        raise click.ClickException(str(error)) from error
    finally:
        kafka.stop()
        shutil.rmtree(directory, ignore_errors=True)
    _show(report)
    if file is not None:
        file.write_text(json.dumps(report, indent=1) + "\n")


async def _measure(directory: Path, kafka: LocalKafka, settings: Settings, runs: int) -> dict[str, Any]:
    await ensure_topics(kafka.brokers, CATALOGUE.topics(settings), settings.partitions, 1)
    scenes = Scenes(directory, kafka, settings)
    report: dict[str, Any] = {"session_timeout_s": settings.session_timeout, "runs": runs}
    try:
        await scenes.up()
        parts: tuple[tuple[str, Callable[[Watch], Awaitable[None]]], ...] = (
            ("kill", scenes.kill),
            ("leave_join", scenes.leave_and_join),
            ("rolling_restart", scenes.rolling_restart),
        )
        for name, scene in parts:
            async with watching(scenes.urls, settings.partitions, name) as watch:
                await asyncio.sleep(CALM_S)
                for _ in range(runs):
                    await scene(watch)
                    await asyncio.sleep(CALM_S)
            report[name] = {
                "commands": sum(map(len, watch.answered.values())),
                "queries": watch.queries,
                "queries_retried": watch.retried,
                "queries_failed": len(watch.failed),
                "queries_stale": watch.stale,
                "examples": watch.failed[:5],
            }
        found = await recount(kafka.brokers, Topics().events("orders"), settings.partitions, scenes.urls)
        report["mismatches"] = found.mismatch_count
        report["orders"] = len(found.rows)
    finally:
        for worker in scenes.workers:
            await asyncio.to_thread(worker.stop)
    report["served_again_after_kill_s"] = [round(s, 2) for s in scenes.killed_s]
    report["unmoved_stop_leave_ms"] = [round(s * 1000) for s in scenes.leave_s]
    report["unmoved_stop_join_ms"] = [round(s * 1000) for s in scenes.join_s]
    return report


def _show(report: dict[str, Any]) -> None:
    table = Table("what", "median", "worst", "all")
    for name in ("served_again_after_kill_s", "unmoved_stop_leave_ms", "unmoved_stop_join_ms"):
        values = report[name]
        table.add_row(name, f"{statistics.median(values):g}", f"{max(values):g}", " ".join(map(str, values)))
    for name in ("kill", "leave_join", "rolling_restart"):
        told = report[name]
        asked = f"{told['queries']} queries: {told['queries_failed']} failed, {told['queries_retried']} tried twice"
        table.add_row(f"{name}: queries", "", "", f"{asked}, {told['queries_stale']} answered by a standby")
    table.add_row("mismatches in the recount", "", "", f"{report['mismatches']} of {report['orders']} orders")
    Console().print(table)


if __name__ == "__main__":
    main()
