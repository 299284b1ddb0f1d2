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
    """Turns signals into `KeyboardInterrupt`.

    An exception that a signal handler raises is lost where Python happens to be in a finaliser or a callback. So a
    running coroutine is cancelled instead, and everywhere else what came is remembered: `check` raises it again.
    """

    def __init__(self) -> None:
        self._came = False
        self._task: asyncio.Task[Any] | None = None

    def catch(self) -> None:
        """From now on, catch them."""
        for number in SIGNALS:
            signal.signal(number, self._note)
        sys.unraisablehook = _unraisable

    @property
    def came(self) -> bool:
        """Whether one came."""
        return self._came

    def ignore(self) -> None:
        """From now on, let nothing interrupt: whoever is impatient must not leave anything behind."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def check(self) -> None:
        """Raise, if one came."""
        if self._came:
            raise KeyboardInterrupt

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """As `asyncio.run`; an interrupt lets the coroutine clean up first."""
        try:
            self.check()
            return asyncio.run(self._cancellable(coroutine))
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
        finally:
            coroutine.close()

    async def _cancellable(self, coroutine: Coroutine[Any, Any, T]) -> T:
        self._task = asyncio.current_task()
        try:
            self.check()
            return await coroutine
        finally:
            self._task = None

    def _note(self, number: int, frame: FrameType | None) -> None:
        again, self._came = self._came, True
        if self._task is None:
            raise KeyboardInterrupt
        if not again:  # the second one would interrupt the cleaning up
            self._task.get_loop().call_soon_threadsafe(self._task.cancel)


def _unraisable(what: Any) -> None:
    if what.exc_type is not KeyboardInterrupt:  # that one is remembered: nobody needs to read of it
        sys.__unraisablehook__(what)
