"""What one run of one peer came to."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Measured:
    """One line of the results. `checked` says that the peer's result was compared with what must come out."""

    peer: str
    workload: str
    events: int
    seconds: float
    cpu_s: float
    rss_mb: float
    broker_cpu_s: float
    checked: bool

    @property
    def events_per_s(self) -> float:
        """Throughput."""
        return self.events / self.seconds

    @property
    def cpu_us_per_event(self) -> float:
        """CPU time of the peer's own process per event, in µs."""
        return self.cpu_s / self.events * 1e6

    def line(self) -> dict[str, Any]:
        """For JSON."""
        derived = {"events_per_s": round(self.events_per_s), "cpu_us_per_event": round(self.cpu_us_per_event, 2)}
        rounded = {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(self).items()}
        return rounded | derived
