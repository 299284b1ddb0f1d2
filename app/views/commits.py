"""Waiting for a row: views in the web thread are told of commits in the worker's loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from app.runtime.shard import Shard
from app.runtime.world import Rows

Waiter = tuple[asyncio.AbstractEventLoop, asyncio.Event]


class Commits:
    """Whole keys (with the table's prefix) that somebody waits for, by agent.

    `committed` is called in the worker's loop after each write; events are set in the loop of those who wait.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, dict[bytes, list[Waiter]]] = {}

    def committed(self, shard: Shard, rows: Rows) -> None:
        """Wake everybody who waits for one of these rows."""
        waiting = self._waiting.get(shard.agent.name)
        if not waiting:
            return
        for key in waiting.keys() & rows.keys():
            for loop, event in tuple(waiting.get(key, ())):
                with suppress(RuntimeError):  # the web thread has stopped
                    loop.call_soon_threadsafe(event.set)

    @contextmanager
    def watch(self, agent: str, key: bytes) -> Iterator[asyncio.Event]:
        """An event that is set whenever the row changes. Look at the row after entering, then wait."""
        event = asyncio.Event()
        entry = (asyncio.get_running_loop(), event)
        waiting = self._waiting.setdefault(agent, {})
        waiting[key] = [*waiting.get(key, ()), entry]
        try:
            yield event
        finally:
            left = [other for other in waiting[key] if other is not entry]
            if left:
                waiting[key] = left
            else:
                del waiting[key]
