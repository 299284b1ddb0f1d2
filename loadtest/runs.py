"""One run of the demo on a running fleet: drive, recount, audit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

from app.audit.running import audit_once
from app.local.fleet import LocalFleet
from app.runtime.settings import Settings
from app.runtime.topics import Topics
from loadtest.customers import population
from loadtest.drive import Driven, drive, run_name
from loadtest.endings import Endings, recount_endings
from loadtest.interrupts import Interrupts
from loadtest.lives import Life, lives
from loadtest.recount import Recount, recount
from loadtest.report import Report
from loadtest.schedule import Due, schedule
from loadtest.shop import Shop
from loadtest.terminal import Ticker

WARM_UP_RATE = 30.0


@dataclass(frozen=True)
class Wish:
    """What is to be run: orders begun a second, `warm_up` orders before them, and with what."""

    orders: int
    rate: float
    warm_up: int
    seed: int
    failures: bool = False
    audit: bool = False


@dataclass(frozen=True)
class Stage:
    """Where it is run."""

    fleet: LocalFleet
    settings: Settings
    console: Console
    interrupts: Interrupts

    @property
    def urls(self) -> list[str]:
        """Where the views are."""
        return [worker.url for worker in self.fleet.workers]

    def say(self, text: str) -> None:
        """Tell people."""
        self.console.print(text, highlight=False)


def run(stage: Stage, wish: Wish) -> Report:
    """Drive, recount, and say what came of it."""
    name = run_name()
    warm = _warm_up(stage, f"w{name}", wish)
    planned = lives(name, wish.orders, wish.seed) if wish.failures else []
    before = _cpu_seconds(stage.fleet)
    if wish.failures:
        driven = _drive_failures(stage, wish, planned, name)
    else:
        driven = _drive(stage, wish, schedule(list(population(name, wish.orders, wish.seed)), wish.rate))
    driven.mismatches += warm.mismatches
    after = _cpu_seconds(stage.fleet)
    # A worker that was killed and started again meanwhile has lost its count.
    cpu = {role: max(after[role] - before[role], 0.0) / driven.seconds * 100 for role in after}
    stage.say("Recounting the event log and comparing it with the view …")
    found = _recount(stage, name)
    endings = _recount_endings(stage, planned) if wish.failures else None
    audit = None
    if wish.audit:
        stage.say("Auditing all topics …")
        audit = stage.interrupts.run(audit_once(stage.fleet.brokers, stage.settings.topic_prefix))
    return Report(wish.orders, driven, found, cpu, endings, audit)


def _warm_up(stage: Stage, name: str, wish: Wish) -> Driven:
    due = schedule(list(population(name, wish.warm_up, 0)), WARM_UP_RATE)
    if not due:
        return Driven()
    with Ticker(stage.console, "warming up …"):
        return stage.interrupts.run(drive(due, stage.settings, stage.urls))


def _drive(stage: Stage, wish: Wish, due: Sequence[Due]) -> Driven:
    before_that = ", after a warm-up" if wish.warm_up else ""
    stage.say(f"Driving {wish.orders:,} orders, {len(due):,} commands in {due[-1].at_s:.0f} s{before_that} …")
    with Ticker(stage.console) as ticker:
        return stage.interrupts.run(drive(due, stage.settings, stage.urls, "kafka", ticker))


def _drive_failures(stage: Stage, wish: Wish, planned: Sequence[Life], name: str) -> Driven:
    stage.say(f"Driving {wish.orders:,} orders with failures, in {wish.orders / wish.rate:.0f} s and what they need …")

    async def trade(ticker: Ticker) -> Driven:
        return await Shop(stage.settings, stage.urls, planned, name, wish.seed).trade(wish.rate, ticker)

    with Ticker(stage.console) as ticker:
        return stage.interrupts.run(trade(ticker))


def _recount(stage: Stage, name: str) -> Recount:
    topics = Topics(stage.settings.topic_prefix)
    return stage.interrupts.run(
        recount(
            stage.fleet.brokers,
            topics.events("orders"),
            stage.settings.partitions,
            stage.urls,
            outcomes=topics.outcomes("orders"),
            run=name,
        )
    )


def _recount_endings(stage: Stage, planned: Sequence[Life]) -> Endings:
    return stage.interrupts.run(recount_endings(stage.settings, planned))


def _cpu_seconds(fleet: LocalFleet) -> dict[str, float]:
    """CPU time so far, by role; Kafka's where it is ours."""
    seconds: dict[str, float] = {}
    for worker in fleet.workers:
        seconds[worker.role] = seconds.get(worker.role, 0.0) + worker.cpu_seconds()
    if fleet.kafka is not None:
        seconds["kafka"] = fleet.kafka.cpu_seconds()
    return seconds
