"""The inbox: batches that wait for the next round, and when that may begin."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

from app.runtime.batch import Batch
from app.runtime.ports import Clock
from app.runtime.settings import Settings
from app.runtime.shard import Shard

PAUSE_S_MIN = 0.0005


class Waiting(NamedTuple):
    """A batch that was handed over, the only shard that it is for, if any, and whoever waits for it to be taken."""

    batch: Batch
    only: Shard | None
    done: asyncio.Future[None]


class Inbox:
    """Gathers batches. Whoever puts one in waits until it was taken or dropped: so few are ever here.

    While `owned` is clear, a rebalance decides whose the bucket is, and nothing is taken.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.owned = asyncio.Event()
        self.owned.set()
        self._settings, self._clock = settings, clock
        self._waiting: list[Waiting] = []
        self._records = 0
        self._wake, self._enough = asyncio.Event(), asyncio.Event()
        self._last_taken_s = 0.0

    async def put(self, batch: Batch, only: Shard | None) -> None:
        """Wait until the batch was taken by a round that is over, or dropped."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(Waiting(batch, only, done))
        self._records += len(batch.records)
        self._wake.set()
        if self._records >= self._settings.round_records_enough:
            self._enough.set()
        await done

    def wake(self) -> None:
        """Let `take` return, with batches or without."""
        self._wake.set()

    async def take(self, at_once: Callable[[], bool]) -> list[Waiting]:
        """Wait for batches, and (but for `at_once`) a little longer: rounds, not events, are the cost at a low load."""
        await self._wake.wait()
        await self.owned.wait()
        settings, clock = self._settings, self._clock
        pause = self._last_taken_s + 1 / settings.rounds_per_s_max - clock.monotonic()
        if at_once() or self._enough.is_set():
            pass
        elif pause > PAUSE_S_MIN:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._enough.wait(), pause)
        elif settings.settle_ms:
            await asyncio.sleep(settings.settle_ms / 1000)
        await self.owned.wait()
        taken, self._waiting = self._waiting, []
        self._records = 0
        self._wake.clear()
        self._enough.clear()
        self._last_taken_s = clock.monotonic()
        return taken

    def drop(self) -> None:
        """Let everybody go whose batch waits: it will be fetched again."""
        dropped, self._waiting = self._waiting, []
        self._records = 0
        settle(dropped)


def settle(waiting: Iterable[Waiting]) -> None:
    """Let those go who wait."""
    for one in waiting:
        if not one.done.done():
            one.done.set_result(None)
