"""Drives a schedule of commands at a fleet and waits for every outcome."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Literal

from app.kernel.errors import FleetError
from app.runtime.settings import Settings
from app.runtime.topics import Topics
from loadtest.latencies import Latencies
from loadtest.outcomes import OutcomeReader, Waiting
from loadtest.probes import ViewProbes
from loadtest.repeats import ask_for_repeats
from loadtest.schedule import Due
from loadtest.senders import HttpSender, KafkaSender, now

Over = Literal["kafka", "http"]

WAITING_MAX = 50_000
DRAIN_TIMEOUT_S = 90.0
PROGRESS_EVERY_S = 1.0
READ_ON_S = 0.3


class LoadRefused(FleetError):
    """The load cannot be driven, or cannot be driven on. The text says why."""


@dataclass
class Driven:
    """What driving came to."""

    commands: int = 0
    seconds: float = 0.0
    outcomes: int = 0
    repeats: int = 0
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
    waiting, probes = Waiting(), ViewProbes(urls)
    sender, reader = _ends(over, settings, urls, waiting)
    driven = Driven(outcome_latencies=waiting.latencies, view_latencies=probes.latencies)
    try:
        if reader is not None:
            await reader.start(settings.partitions)
        await sender.start()
        await probes.start()
        await _while_reading(_Clockwork(due, waiting, driven, progress).run(sender, probes), reader, waiting)
        await sender.finish()
        await probes.finish()
        if over == "kafka":
            await ask_for_repeats(urls, (one.step for one in due), waiting)
    except TimeoutError:
        waiting.mismatch("what was sent was not taken in time: is Kafka, or are the workers, away?")
    finally:
        await probes.stop()
        await sender.stop()
        if reader is not None:
            await reader.stop()
    return _sum_up(driven, waiting, probes)


def _ends(
    over: Over, settings: Settings, urls: Sequence[str], waiting: Waiting
) -> tuple[KafkaSender | HttpSender, OutcomeReader | None]:
    """Where commands go in and where outcomes come out: over HTTP an outcome is the answer."""
    if over == "http":
        return HttpSender(urls, waiting), None
    topics = Topics(settings.topic_prefix)
    sender = KafkaSender(settings.brokers, topics.commands("orders"), settings.partitions, waiting)
    return sender, OutcomeReader(settings.brokers, topics.outcomes("orders"), waiting)


async def _while_reading(driving: Coroutine[None, None, None], reader: OutcomeReader | None, waiting: Waiting) -> None:
    """Drive, and read outcomes meanwhile and for a moment longer: a second outcome of a command would come then."""
    if reader is None:
        await driving
        return
    tasks = asyncio.create_task(reader.run()), asyncio.create_task(driving)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[1].done() and not waiting.unanswered():
            await asyncio.wait(tasks[:1], timeout=READ_ON_S)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


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
                await asyncio.sleep(max(pause, 0))  # 0 where we are late: whoever else runs here must get a turn
                self._driven.late_max_s = max(self._driven.late_max_s, -pause)
                await sender.send(one.step, intended)
                probes.sent(one.step, intended)
                self._driven.commands += 1
                if len(self._waiting) > WAITING_MAX:
                    raise LoadRefused(
                        f"{WAITING_MAX} commands wait for their outcome: the fleet does not keep up with this rate"
                    )
            await self._drain()
        finally:
            self._driven.seconds = now() - self._started
            ticking.cancel()
            await asyncio.gather(ticking, return_exceptions=True)

    async def _drain(self) -> None:
        """Wait for the last outcomes. Those that do not come in time are counted as missing."""
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                await self._waiting.all_answered.wait()
        except TimeoutError:
            return

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_EVERY_S)
            p99 = self._waiting.latencies.percentile(99)
            done, total = self._driven.commands, len(self._due)
            self._progress(
                Progress(now() - self._started, done, total, self._waiting.outcomes, len(self._waiting), p99)
            )


def _sum_up(driven: Driven, waiting: Waiting, probes: ViewProbes) -> Driven:
    driven.outcomes, driven.repeats = waiting.outcomes, waiting.repeats
    driven.rejected = dict(sorted(waiting.rejected.items()))
    driven.mismatches = list(waiting.mismatches)
    driven.mismatches += [f"{command_id} has no outcome" for command_id in waiting.unanswered()]
    if probes.failed:
        driven.mismatches.append(f"{probes.failed} orders were not visible in the view in time")
    return driven


def run_name() -> str:
    """A name for a run that no earlier run on the same data has had."""
    return f"o{time.time_ns() // 1_000_000:x}"
