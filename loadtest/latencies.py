"""Latencies in an HdrHistogram: from the intended moment of sending, so that a stall counts for all whom it held up."""

from __future__ import annotations

from typing import Any

from hdrh.histogram import HdrHistogram

LOWEST_US, HIGHEST_US, DIGITS = 1, 600_000_000, 3


class Latencies:
    """Seconds in, percentiles in milliseconds out."""

    def __init__(self) -> None:
        self._histogram: Any = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)

    def add(self, seconds: float) -> None:
        """Note one."""
        self._histogram.record_value(min(max(int(seconds * 1e6), LOWEST_US), HIGHEST_US))

    def __len__(self) -> int:
        return int(self._histogram.get_total_count())

    def percentile(self, percent: float) -> float | None:
        """In milliseconds; `None` where nothing was noted."""
        return self._histogram.get_value_at_percentile(percent) / 1000 if len(self) else None

    def summary(self) -> dict[str, float | None]:
        """p50, p90, p99 and the largest, in milliseconds."""
        return {
            "p50": self.percentile(50),
            "p90": self.percentile(90),
            "p99": self.percentile(99),
            "max": self.percentile(100),
        }
