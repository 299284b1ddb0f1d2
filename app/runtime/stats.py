"""What a pipeline counts, for metrics and status pages. Plain numbers: read from other threads, exact enough there."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from app.runtime.folded import Folded
from app.runtime.shard import Shard

DURATION_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass
class Durations:
    """A histogram of durations, in seconds, of one kind of event: one count per bound and one beyond."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(DURATION_BOUNDS_S) + 1))
    sum_s: float = 0.0

    def add(self, seconds: float, times: int) -> None:
        """Count `times` events that took `seconds` each."""
        self.counts[bisect.bisect_left(DURATION_BOUNDS_S, seconds)] += times
        self.sum_s += seconds * times


@dataclass
class Restoring:
    """How far an opening has come: `done` of `total` log offsets, and how many records that were."""

    total: int = 0
    done: int = 0
    rows: int = 0

    def begin(self, offsets: int) -> None:
        """Add offsets that are to be replayed."""
        self.total += offsets

    def took(self, rows: int, offsets: int) -> None:
        """Count a chunk."""
        self.rows += rows
        self.done = min(self.done + offsets, self.total)

    @property
    def share(self) -> float:
        """Between 0 and 1; 1 where there is nothing to do."""
        return self.done / self.total if self.total else 1.0

    def __str__(self) -> str:
        return f"{self.rows:,} rows, {self.share:.0%} of {self.total:,} offsets"


@dataclass
class PipelineStats:
    """One pipeline's counts since the process started. Times are in seconds.

    `counts` has what the agents count themselves, by (agent, name).
    """

    events: Counter[tuple[str, str]] = field(default_factory=Counter)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    durations: dict[str, Durations] = field(default_factory=dict)
    records: int = 0
    rounds: int = 0
    opens: int = 0
    failures: int = 0
    gaps: int = 0
    batches_dropped: int = 0
    rows_restored: int = 0
    restoring: Restoring = field(default_factory=Restoring)
    open_s: float = 0.0
    fold_s: float = 0.0
    produce_s: float = 0.0
    commit_s: float = 0.0
    write_s: float = 0.0
    state_since: float = 0.0
    last_error: str | None = None

    def opening(self) -> Restoring:
        """An opening begins: what it is to tell its progress to."""
        self.restoring = Restoring()
        return self.restoring

    def opened(self, seconds: float) -> None:
        """Count an opening."""
        self.opens += 1
        self.rows_restored += self.restoring.rows
        self.open_s = seconds

    def failed(self, error: BaseException) -> None:
        """Count an error that the pipeline recovers from."""
        self.failures += 1
        self.last_error = f"{type(error).__name__}: {error}"

    def round(self, parts: Mapping[Shard, Folded], times: tuple[float, float, float, float, float]) -> None:
        """Count a committed round; `times` are the moments before and after folding, producing, committing, writing."""
        began, folded, produced, committed, written = times
        self.rounds += 1
        self.fold_s += folded - began
        self.produce_s += produced - folded
        self.commit_s += committed - produced
        self.write_s += written - committed
        for shard, part in parts.items():
            self.records += part.records
            for name, count in part.unit.counts.items():
                self.counts[shard.agent.name, name] += count
            for (kind, status), count in part.events.items():
                self.events[kind, status] += count
                self.durations.setdefault(kind, Durations()).add(written - began, count)
