"""An event loop in which time is a number: nothing waits, and the same again is exactly the same."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

CALLBACKS_MAX = 2_000_000
"""A simulation that has run so many steps will not come to an end."""


ENDINGS_MAX = 10
"""How often tasks may make others while they end."""


class NothingLeft(RuntimeError):
    """Everybody waits, and nothing will ever happen: a deadlock."""


class Endless(RuntimeError):
    """The simulation goes on and on."""


class SimulatedLoop(asyncio.BaseEventLoop):
    """asyncio without a clock, a selector, threads or signals.

    Callbacks that are ready run in the order in which they became so; when there is none, time jumps to the next timer.
    Whatever is to happen in another order with another seed has to take another time: see `Process.perform`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 0.0
        self._turns = 0
        self._clock_resolution = 1e-9
        self._selector = self

    def time(self) -> float:
        """Seconds since the simulation began."""
        return self._now_s

    def select(self, timeout: float | None) -> list[Any]:
        """What asyncio asks the operating system: here, let the time pass."""
        self._turns += 1
        if timeout is None:
            raise NothingLeft("everybody waits for somebody else")
        if self._turns > CALLBACKS_MAX:
            raise Endless(f"no end after {self._turns} turns of the loop")
        if timeout > 0:
            self._now_s += timeout
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody calls from other threads."""

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run until `work` is done, then end whatever still waits, and close."""
        try:
            return self.run_until_complete(work)
        finally:
            self._end_the_rest()
            self.close()

    def _end_the_rest(self) -> None:
        for _ in range(ENDINGS_MAX):
            tasks = asyncio.all_tasks(self)
            if not tasks:
                return
            for task in tasks:
                task.cancel()
            self.run_until_complete(asyncio.wait(tasks, timeout=1.0))
            for task in tasks:
                if task.done() and not task.cancelled():
                    task.exception()
