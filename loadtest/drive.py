"""Drives a schedule of commands at a fleet and waits for every outcome."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from app.kernel.errors import FleetError
from app.runtime.settings import Settings
from app.runtime.topics import Topics
from loadtest.latencies import Latencies
from loadtest.outcomes import OutcomeReader, Waiting
from loadtest.probes import ViewProbes
from loadtest.schedule import Due
from loadtest.senders import HttpSender, KafkaSender, now

Over = Literal["kafka", "http"]

WAITING_MAX = 50_000
DRAIN_TIMEOUT_S = 90.0
PROGRESS_EVERY_S = 1.0


class LoadRefused(FleetError):
    """The load cannot be driven, or cannot be driven on. The text says why."""


@dataclass
class Driven:
    """What driving came to."""

    commands: int = 0
    seconds: float = 0.0
    outcomes: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    outcome_latencies: Latencies = field(default_factory=Latencies)
    view_latencies: Latencies = field(default_factory=Latencies)
    late_max_s: float = 0.0
    mismatches: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Progress:
    """Where the driving stands."""

    seconds: float
    sent: int
    total: int
    outcomes: int
    waiting: int
    outcome_p99_ms: float | None


async def drive(
    due: Sequence[Due],
    settings: Settings,
    urls: Sequence[str],
    over: Over = "kafka",
    progress: Callable[[Progress], None] = lambda progress: None,
) -> Driven:
    """Send everything when it is due; return when every command is answered, or the drain's deadline is past."""
    waiting, topics = Waiting(), Topics(settings.topic_prefix)
    commands, outcomes = topics.commands("orders"), topics.outcomes("orders")
    sender: KafkaSender | HttpSender = HttpSender(urls, waiting)
    reader: OutcomeReader | None = None
    if over == "kafka":
        sender = KafkaSender(settings.brokers, commands, settings.partitions, waiting)
        reader = OutcomeReader(settings.brokers, outcomes, waiting)
        await reader.start(settings.partitions)
    probes = ViewProbes(urls)
    await sender.start()
    await probes.start()
    reading = asyncio.create_task(reader.run()) if reader else None
    driven = Driven(outcome_latencies=waiting.latencies, view_latencies=probes.latencies)
    try:
        await _Clockwork(due, waiting, driven, progress).run(sender, probes)
        await _drain(waiting, reading)
        await probes.stop()
    finally:
        if reading is not None:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        await sender.stop()
        await probes.stop()
        if reader is not None:
            await reader.stop()
    return _sum_up(driven, waiting, probes)


class _Clockwork:
    def __init__(
        self, due: Sequence[Due], waiting: Waiting, driven: Driven, progress: Callable[[Progress], None]
    ) -> None:
        self._due, self._waiting, self._driven, self._progress = due, waiting, driven, progress
        self._started = now()

    async def run(self, sender: KafkaSender | HttpSender, probes: ViewProbes) -> None:
        self._started = now()
        ticking = asyncio.create_task(self._tick())
        try:
            for one in self._due:
                intended = self._started + one.at_s
                pause = intended - now()
                if pause > 0:
                    await asyncio.sleep(pause)
                self._driven.late_max_s = max(self._driven.late_max_s, -pause)
                await sender.send(one.step, intended)
                probes.sent(one.step, intended)
                self._driven.commands += 1
                if len(self._waiting) > WAITING_MAX:
                    raise LoadRefused(
                        f"{WAITING_MAX} commands wait for their outcome: the fleet does not keep up with this rate"
                    )
            await asyncio.wait_for(
                self._waiting.all_answered.wait(), None if not len(self._waiting) else DRAIN_TIMEOUT_S
            )
        except TimeoutError:
            return
        finally:
            self._driven.seconds = now() - self._started
            ticking.cancel()
            await asyncio.gather(ticking, return_exceptions=True)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_EVERY_S)
            p99 = self._waiting.latencies.percentile(99)
            done, total = self._driven.commands, len(self._due)
            self._progress(
                Progress(now() - self._started, done, total, self._waiting.outcomes, len(self._waiting), p99)
            )


async def _drain(waiting: Waiting, reading: asyncio.Task[None] | None) -> None:
    """Read on for a moment: a second outcome for a command would come now."""
    if reading is not None and not waiting.unanswered():
        await asyncio.wait([reading], timeout=0.3)
    if reading is not None and reading.done():
        reading.result()


def _sum_up(driven: Driven, waiting: Waiting, probes: ViewProbes) -> Driven:
    driven.outcomes, driven.rejected = waiting.outcomes, dict(sorted(waiting.rejected.items()))
    driven.mismatches = list(waiting.mismatches)
    driven.mismatches += [f"{command_id} has no outcome" for command_id in waiting.unanswered()]
    if probes.failed:
        driven.mismatches.append(f"{probes.failed} orders were not visible in the view in time")
    return driven


def run_name() -> str:
    """A name for a run that no earlier run on the same data has had."""
    return f"o{time.time_ns() // 1_000_000:x}"
