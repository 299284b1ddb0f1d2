"""The ledger: every command that was sent, and its outcome; second by second what was sent, answered, and how late."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

EXAMPLES_MAX = 50


@dataclass(frozen=True)
class Expected:
    """How a command must end: rejected for a reason, or accepted; at which version. A repeat must be told the same."""

    rejected: str | None
    version: int


@dataclass
class Second:
    """What happened in one second of the run."""

    sent: int = 0
    outcomes: int = 0
    latencies_s: list[float] = field(default_factory=list)


class Ledger:
    """Commands that no broker has acknowledged are never counted as lost; those that were must have one outcome."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.seconds: dict[int, Second] = defaultdict(Second)
        self.violations: list[str] = []
        self.sent = self.repeated = self.outcomes = self.in_doubt = 0
        self._open: dict[str, tuple[Expected | None, float]] = {}
        self._acknowledged: set[str] = set()
        self._answered: set[str] = set()

    def now(self) -> float:
        """Seconds since the start of the run."""
        return time.perf_counter() - self.started

    def sending(self, command_id: str, expected: Expected | None, intended_s: float) -> None:
        """It is tried to send a command, perhaps not for the first time."""
        if command_id in self._open or command_id in self._answered:
            self.repeated += 1
            return
        self._open[command_id] = expected, intended_s

    def acknowledged(self, command_id: str) -> None:
        """A broker has it."""
        self.sent += 1
        self.seconds[int(self.now())].sent += 1
        self._acknowledged.add(command_id)

    def answered(self, command_id: str, reason: str | None, version: int) -> None:
        """An outcome has come. Those of the chains' own commands are none of ours."""
        if command_id in self._answered:
            self.violation(f"{command_id} has a second outcome")
            return
        if command_id not in self._open:
            return
        expected, intended_s = self._open.pop(command_id)
        self._answered.add(command_id)
        self.outcomes += 1
        second = self.seconds[int(self.now())]
        second.outcomes += 1
        second.latencies_s.append(self.now() - intended_s)
        if expected is not None and expected != Expected(reason, version):
            self.violation(
                f"{command_id}: {reason or 'accepted'} at version {version}, not {expected.rejected or 'accepted'} "
                f"at {expected.version}"
            )

    def violation(self, text: str) -> None:
        """Something is not as it must be."""
        self.violations.append(text)

    def unanswered(self) -> list[str]:
        """Commands that a broker has, and that have no outcome."""
        return sorted(self._acknowledged & self._open.keys())

    def close(self) -> None:
        """The run is over, and drained: what has no outcome now is lost."""
        lost = self.unanswered()
        self.in_doubt = len(self._open) - len(lost)
        self.violations += [f"{command_id} was acknowledged, and has no outcome" for command_id in lost[:EXAMPLES_MAX]]
        if len(lost) > EXAMPLES_MAX:
            self.violation(f"and {len(lost) - EXAMPLES_MAX} further commands have no outcome")

    def series(self, seconds: int) -> dict[str, list[Any]]:
        """Per second of the run: sent, outcomes, and the latency of those in ms (p50, p99, largest)."""
        rows = [self.seconds.get(number, Second()) for number in range(seconds)]
        latencies = [sorted(row.latencies_s) for row in rows]
        return {
            "sent": [row.sent for row in rows],
            "outcomes": [row.outcomes for row in rows],
            "p50_ms": [_percentile(one, 0.50) for one in latencies],
            "p99_ms": [_percentile(one, 0.99) for one in latencies],
            "max_ms": [_percentile(one, 1.0) for one in latencies],
        }

    def latency_ms(self) -> dict[str, float | None]:
        """Over the whole run, outages and all."""
        found = sorted(latency for second in self.seconds.values() for latency in second.latencies_s)
        return {"p50": _percentile(found, 0.5), "p99": _percentile(found, 0.99), "max": _percentile(found, 1.0)}


def _percentile(values: list[float], share: float) -> float | None:
    """Of sorted seconds, in milliseconds."""
    return round(values[min(len(values) - 1, int(share * len(values)))] * 1000, 1) if values else None
