"""Work beside the rounds: begun again where it fails, and never ended without a word."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from app.runtime.patience import EXPECTED, pause_s
from app.runtime.ports import Clock

log = logging.getLogger(__name__)

PAUSE_S_MAX = 10.0
GOOD_RUN_S = 60.0
"""What has run for so long before it fails is begun again after the shortest pause."""

STOP_TIMEOUT_S = 1.0

Work = Callable[[], Coroutine[Any, Any, None]]


class Background:
    """Tasks of one worker. They end with `stop` or `cancel`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()

    def once(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the work. An error is told."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def keep(self, name: str, work: Work) -> None:
        """Do the work until `stop`, or until it ends by itself; where it fails, tell, and begin again."""
        self.once(self._keep(name, work))

    async def _keep(self, name: str, work: Work) -> None:
        failures = 0
        while True:
            began_s = self._clock.monotonic()
            try:
                return await work()
            except Exception as error:
                failures = 1 if self._clock.monotonic() - began_s > GOOD_RUN_S else failures + 1
                trace = None if isinstance(error, EXPECTED) else error
                log.error("%s begins again (%d): %r", name, failures, error, exc_info=trace)  # noqa: TRY400
                await self._clock.sleep(pause_s(failures, PAUSE_S_MAX))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("work in the background has failed for good", exc_info=error)

    def cancel(self) -> None:
        """Tell all of it to end."""
        for task in self._tasks:
            task.cancel()

    async def stop(self) -> None:
        """End all of it, and wait a moment for that."""
        self.cancel()
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=STOP_TIMEOUT_S)
