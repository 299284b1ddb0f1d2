"""The clock of the machine."""

from __future__ import annotations

import asyncio
import time


class SystemClock:
    """Real time (see `ports.Clock`)."""

    def monotonic(self) -> float:
        """Seconds that only grow."""
        return time.monotonic()

    def epoch_ms(self) -> int:
        """Milliseconds since 1970, UTC."""
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)
