"""Time that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import heapq
import itertools

EPOCH_MS = 1_800_000_000_000
"""When simulated time begins, for no particular reason."""


class SimulatedClock:
    """Implements `ports.Clock`. With `runs` set, whoever sleeps moves the time on at once; else `advance` does."""

    def __init__(self, *, runs: bool = False) -> None:
        self._runs = runs
        self._now_s = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def monotonic(self) -> float:
        """Seconds since the simulation began."""
        return self._now_s

    def epoch_ms(self) -> int:
        """Milliseconds since 1970, UTC."""
        return EPOCH_MS + round(self._now_s * 1000)

    async def sleep(self, seconds: float) -> None:
        """Wait until the time has come."""
        if self._runs:
            self._now_s += max(seconds, 0.0)
            await asyncio.sleep(0)
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now_s + seconds, next(self._order), done))
        await done

    def advance(self, seconds: float) -> None:
        """Move the time on and wake those whose time has come, in that order."""
        self._now_s += seconds
        while self._sleepers and self._sleepers[0][0] <= self._now_s:
            done = heapq.heappop(self._sleepers)[2]
            if not done.done():
                done.set_result(None)
