"""A worker as the product has it, that also does to itself what the test bed orders: `faust -A chaos.worker worker`.

The product knows nothing of it: only a worker that was started by this module can be told to die in a commit.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

from app.main import app
from app.runtime.codec import utc_now
from app.runtime.ports import Clock, PartitionStore, Progress, StoreFactory
from app.views import commands
from chaos.orders import ORDERS_FILE, Obedience

obedience = Obedience(Path(os.environ[ORDERS_FILE]))


class WrongClock:
    """The clock, wrong by what the orders say (see `ports.Clock`)."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def monotonic(self) -> float:
        """As it is: no operating system lets it jump."""
        return self._clock.monotonic()

    def epoch_ms(self) -> int:
        """The time of day, wrong."""
        return self._clock.epoch_ms() + obedience.look().clock_offset_ms

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


class WatchedStore:
    """A store that tells of each write before it happens."""

    def __init__(self, store: PartitionStore, agent: str) -> None:
        self._store, self._effect = store, f"store-write:{agent}"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def write(self, rows: Mapping[bytes, bytes | None], progress: Progress) -> None:
        """See `ports.PartitionStore`."""
        obedience.effect(self._effect)
        self._store.write(rows, progress)


class WatchedStores:
    """The stores, each one watched (see `ports.StoreFactory`)."""

    def __init__(self, stores: StoreFactory) -> None:
        self._stores = stores

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stores, name)

    def __call__(self, agent: str, partition: int) -> PartitionStore:
        """The store of one agent and partition."""
        return cast(PartitionStore, WatchedStore(self._stores(agent, partition), agent))


def wrong_now() -> datetime:
    """The time that views put into commands."""
    return utc_now() + timedelta(milliseconds=obedience.look().clock_offset_ms)


app.instrument(obedience.effect, WrongClock, lambda stores: cast(StoreFactory, WatchedStores(stores)))
commands.utc_now = wrong_now  # type: ignore[attr-defined]
