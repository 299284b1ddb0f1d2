"""Notifications: after a round is committed its events go onto the bus as thin ones, for whoever wants to ask back.

**Best effort.** They are made from what is committed and written, never before; but a worker that dies between the
commit and the bus, a bus that is away, or more changes than `PER_S_MAX` lose some, counted. So a notification says
that there is news, its absence says nothing: whoever must see every event reads the events topic.

The worker that serves a partition tells of it: a standby does not.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from app.buses.contract import EventBus
from app.buses.event import BusEvent
from app.kernel.errors import BusUnavailable
from app.runtime.shard import Shard
from app.runtime.unit import Emitted
from app.runtime.world import Rows
from tables.event_store import HISTORY

log = logging.getLogger(__name__)

WAITING_MAX = 5_000
AT_ONCE_MAX = 200
PER_S_MAX = 2_000.0
"""Notifications cost CPU that folding needs: beyond this rate the oldest that wait are dropped."""


class _Thin(msgspec.Struct):
    """What a notification takes from a record; its data are left where they are."""

    id: str
    type: str
    source: str
    subject: str
    time: datetime
    version: int | None = None


_decode = msgspec.json.Decoder(_Thin).decode


def thin(raw: bytes, source: str | None = None) -> BusEvent:
    """The notification of a recorded event."""
    it = _decode(raw)
    return BusEvent(it.id, it.type, it.subject, it.time, it.version, source=source or it.source)


class Notifier:
    """Takes committed events in the worker's loop, publishes them in the loop that `run` runs in.

    `indexing` names the agents that index events, with their categories: an event is told of once it can be found.
    """

    def __init__(self, bus: EventBus, indexing: Mapping[str, str], alerts: str) -> None:
        self.stats: Counter[str] = Counter(published=0, dropped=0)
        self._bus = bus
        self._sources = {agent: f"/eventfleet/{category}" for agent, category in indexing.items()}
        self._alerts = alerts
        self._waiting: deque[tuple[bytes, str | None]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()

    def round_done(self, shard: Shard, rows: Rows, emitted: Sequence[Emitted]) -> None:
        """A round is committed and written: called in the worker's loop, and so quick."""
        if self._loop is None:
            return
        source = self._sources.get(shard.agent.name)
        if source is not None:
            self._take([(HISTORY.decode(raw), source) for key, raw in rows.items() if raw and _is_event(key)])
        elif self._alerts in shard.agent.emits:
            self._take([(e.value, None) for e in emitted if e.topic == self._alerts and e.value])

    def _take(self, news: Sequence[tuple[bytes, str | None]]) -> None:
        if not news:
            return
        self._waiting.extend(news[-WAITING_MAX:])
        dropped = max(0, len(news) - WAITING_MAX)
        while len(self._waiting) > WAITING_MAX:
            self._waiting.popleft()
            dropped += 1
        self.stats["dropped"] += dropped
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake.set)

    async def run(self) -> None:
        """Publish what comes, until cancelled."""
        self._loop = asyncio.get_running_loop()
        quiet = True
        while True:
            await self._wake.wait()
            self._wake.clear()
            while news := self._next():
                try:
                    await self._bus.publish(*news)
                    self.stats["published"] += len(news)
                    quiet = True
                except BusUnavailable as error:
                    self.stats["dropped"] += len(news)
                    if quiet:
                        log.warning("notifications are lost while the bus is away: %s", error)
                    quiet = False
                await asyncio.sleep(len(news) / PER_S_MAX)

    def _next(self) -> list[BusEvent]:
        news: list[BusEvent] = []
        while self._waiting and len(news) < AT_ONCE_MAX:
            raw, source = self._waiting.popleft()
            try:
                news.append(thin(raw, source))
            except msgspec.DecodeError as error:  # nothing that was folded is that
                log.warning("a committed event is none: %s", error)
        return news


def _is_event(key: bytes) -> bool:
    return key.startswith(HISTORY.prefix)
