"""Many seeds, over as many processes as there are cores."""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from simulation.fleet import Played, play
from simulation.scene import scene_of

CHUNK_SEEDS = 20
FAILURES_MAX = 5
"""After so many violated seeds the rest is not played: there is enough to look at."""
TELL_EVERY_S = 10.0


@dataclass
class Tally:
    """What came of a run of seeds."""

    seeds: int = 0
    crashes: int = 0
    steps: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    failed: list[Played] = field(default_factory=list)

    @property
    def violations(self) -> int:
        """How many promises were broken, in all seeds."""
        return sum(len(played.violations) for played in self.failed)

    def add(self, other: Tally) -> None:
        """Take another one's counts in."""
        self.seeds += other.seeds
        self.crashes += other.crashes
        self.steps += other.steps
        self.faults += other.faults
        self.failed += other.failed

    def last_line(self) -> str:
        """The result, for people and programs."""
        return f"seeds {self.seeds}, crashes injected {self.crashes}, violations {self.violations}"


def play_seeds(seeds: Iterable[int]) -> Tally:
    """Play some seeds, one after the other, in this process."""
    tally = Tally()
    for seed in seeds:
        played = play(scene_of(seed))
        tally.seeds += 1
        tally.crashes += played.crashes
        tally.steps += played.steps
        tally.faults.update(played.faults)
        if played.violations:
            tally.failed.append(played)
    gc.collect()  # while scenes are played the collector is off, so that they are the same every time
    return tally


def simulate(first: int, seeds: int, *, processes: int | None = None, tell: bool = True) -> Tally:
    """Play seeds `first`, `first` + 1, …"""
    processes = min(processes or os.cpu_count() or 1, max(1, seeds // CHUNK_SEEDS))
    chunks = [
        range(start, min(start + CHUNK_SEEDS, first + seeds)) for start in range(first, first + seeds, CHUNK_SEEDS)
    ]
    tally, told_s = Tally(), time.monotonic()
    for part in _over(processes, chunks):
        tally.add(part)
        if tell and time.monotonic() - told_s > TELL_EVERY_S:
            told_s = time.monotonic()
            print(f"… {tally.last_line()}", file=sys.stderr, flush=True)
        if len(tally.failed) >= FAILURES_MAX:
            break
    tally.failed.sort(key=lambda played: played.scene.seed)
    return tally


def _over(processes: int, chunks: list[range]) -> Iterator[Tally]:
    if processes == 1:
        yield from map(play_seeds, chunks)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(play_seeds, chunks)
