"""A fault that has happened, and how long the fleet took to come back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass
class Struck:
    """One fault. Times are seconds of the run; `why_not` where it could not be made."""

    kind: str
    what: str
    at_s: float
    healed_s: float
    since_s: float
    recovered_s: float | None = None
    worst_probe_s: float = 0.0
    why_not: str | None = None

    @property
    def recovery_ms(self) -> int | None:
        """From the moment that counts until every partition had answered a new probe."""
        return None if self.recovered_s is None else round((self.recovered_s - self.since_s) * 1000)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "kind": self.kind,
            "what": self.what,
            "at_s": round(self.at_s, 2),
            "healed_s": round(self.healed_s, 2),
            "recovery_ms": self.recovery_ms,
            "slowest_probe_ms": round(self.worst_probe_s * 1000),
        }


def recovery_by_kind(struck: Sequence[Struck]) -> dict[str, dict[str, int]]:
    """p50 and maximum of the recoveries, and their number, by kind."""
    found: dict[str, list[int]] = defaultdict(list)
    for one in struck:
        if one.recovery_ms is not None:
            found[one.kind].append(one.recovery_ms)
    return {
        kind: {"p50": sorted(times)[len(times) // 2], "max": max(times), "n": len(times)}
        for kind, times in sorted(found.items())
    }
