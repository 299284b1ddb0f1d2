"""Measures when a command's effect can be seen in the view: by asking the view, for a sample of commands."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence

import aiohttp

from loadtest.customers import Step
from loadtest.latencies import Latencies

PROBES_PER_S = 25.0
PROBES_AT_ONCE = 64
TRY_S = 0.02
TIMEOUT_S = 30.0


class ViewProbes:
    """Asks `GET /orders/{id}?min_version=N`, of one worker after the other, from the sending until it is there."""

    def __init__(self, urls: Sequence[str]) -> None:
        self.latencies = Latencies()
        self.failed = 0
        self._urls = itertools.cycle(urls)
        self._session: aiohttp.ClientSession | None = None
        self._under_way: set[asyncio.Task[None]] = set()
        self._last_s = 0.0

    async def start(self) -> None:
        """Open the connections."""
        connector = aiohttp.TCPConnector(limit=PROBES_AT_ONCE)
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S), connector=connector)

    def sent(self, step: Step, intended: float) -> None:
        """Maybe take this command into the sample."""
        due = intended - self._last_s >= 1 / PROBES_PER_S
        if step.rejected or step.repeat or not due or len(self._under_way) >= PROBES_AT_ONCE:
            return
        self._last_s = intended
        task = asyncio.create_task(self._probe(step, intended))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _probe(self, step: Step, intended: float) -> None:
        deadline = intended + TIMEOUT_S
        while time.perf_counter() < deadline:
            if await self._visible(step):
                self.latencies.add(time.perf_counter() - intended)
                return
            await asyncio.sleep(TRY_S)
        self.failed += 1

    async def _visible(self, step: Step) -> bool:
        if self._session is None:
            raise RuntimeError("start the probes first")
        url = f"{next(self._urls)}/orders/{step.order_id}"
        try:
            async with self._session.get(url, params={"min_version": str(step.version)}) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def finish(self) -> None:
        """Wait for the probes under way: each ends by itself."""
        if self._under_way:
            await asyncio.wait(list(self._under_way))

    async def stop(self) -> None:
        """Drop the probes under way, and disconnect."""
        under_way = list(self._under_way)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
