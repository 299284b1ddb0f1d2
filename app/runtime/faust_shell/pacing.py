"""Fetch pacing: at a steady flow the broker holds each fetch for a moment, so that rounds are fewer and larger.

Transactions and wake-ups, not events, are the cost at a low load. Lingering before the fetch costs nothing; lingering
before the transaction would still pay for every wake-up.
"""

from __future__ import annotations

import asyncio
from typing import Any

ENOUGH_BYTES = 256 << 10
RATE_WINDOW_S = 0.5
IDLE_AFTER_PACES = 2.5


class Pacing:
    """Switches a fetcher between answering at the first byte and waiting `pace_ms` (or for 256 KiB)."""

    def __init__(self, pace_ms: int, records_per_s_min: float, *, idle_wait_ms: int) -> None:
        self._pace_ms = pace_ms
        self._records_per_s_min = records_per_s_min
        self._idle_wait_ms = idle_wait_ms
        self._rate_per_s = 0.0
        self._at = 0.0
        self._idle: asyncio.TimerHandle | None = None

    def fetched(self, fetcher: Any, records: int, loop: asyncio.AbstractEventLoop) -> None:
        """Note a fetch and set the pace of the next one."""
        now = loop.time()
        elapsed = max(now - self._at, 1e-4)
        self._at = now
        self._rate_per_s += min(1.0, elapsed / RATE_WINDOW_S) * (records / elapsed - self._rate_per_s)
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if not self._pace_ms or self._rate_per_s < self._records_per_s_min:
            self._answer_at_once(fetcher)
            return
        fetcher._fetch_min_bytes, fetcher._fetch_max_wait_ms = ENOUGH_BYTES, self._pace_ms
        self._idle = loop.call_later(IDLE_AFTER_PACES * self._pace_ms / 1000, self._answer_at_once, fetcher)

    def _answer_at_once(self, fetcher: Any) -> None:
        fetcher._fetch_min_bytes, fetcher._fetch_max_wait_ms = 1, self._idle_wait_ms
