"""Ctrl-C, SIGTERM and a closed terminal: none of them is lost, whatever the program was doing."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Turns the first signal into one `KeyboardInterrupt`, and lets none that follow disturb the cleaning up.

    An exception that a signal handler raises is lost where Python happens to be in a finaliser, and does harm inside
    of an event loop. So while a coroutine runs it is cancelled instead, and what came is remembered: `check` raises.
    """

    def __init__(self) -> None:
        self.came = False
        """Whether one came."""
        self._raised = False
        self._runs = False
        self._task: asyncio.Task[Any] | None = None

    def catch(self) -> None:
        """From now on, catch them."""
        for number in SIGNALS:
            signal.signal(number, self._note)
        sys.unraisablehook = self._unraisable

    def ignore(self) -> None:
        """From now on, let nothing interrupt: whoever is impatient must not leave anything behind."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def check(self) -> None:
        """Raise, if one came that has not been raised yet."""
        if self.came and not self._raised:
            self._raised = True
            raise KeyboardInterrupt

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """As `asyncio.run`; an interrupt lets the coroutine clean up first."""
        self._runs = True
        try:
            return asyncio.run(self._cancellable(coroutine))
        finally:
            self._runs = False
            coroutine.close()
            self.check()

    async def _cancellable(self, coroutine: Coroutine[Any, Any, T]) -> T:
        self._task = asyncio.current_task()
        try:
            if self.came:
                raise asyncio.CancelledError
            return await coroutine
        finally:
            self._task = None

    def _note(self, number: int, frame: FrameType | None) -> None:
        again, self.came = self.came, True
        if not self._runs:
            self.check()
        elif self._task is not None and not again:
            self._task.get_loop().call_soon_threadsafe(self._task.cancel)

    def _unraisable(self, what: Any) -> None:
        if what.exc_type is KeyboardInterrupt:
            self._raised = False  # it was lost: the next check, or the next signal, raises it again
        else:
            sys.__unraisablehook__(what)
