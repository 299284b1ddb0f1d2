"""One look at the whole fleet, for the live page: gathered from every worker, and kept for a moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import msgspec
from aiohttp import web

from app.projections.orders import ORDERS, OrderRow
from app.runtime.directory import Entry
from app.views.live.activity import Activity, Raised, Seen
from app.views.live.pulse import SECONDS, Pulse, PulseViews
from app.views.places import Places, store_of
from app.views.problems import Problem
from app.views.served import ServedReadModel
from app.views.windows import WindowViews
from app.windows.orders_last_minute import ORDERS_LAST_MINUTE
from tables.read_models import read_model_of

KEEP_S = 0.5
ASK_TIMEOUT_S = 1.5
RATE_SECONDS = 10
ROWS_MAX = 200


class LastMinute(msgspec.Struct, frozen=True):
    """Orders of the last 60 s: what the window says, or else what workers counted as it came, without a sum."""

    count: int
    total: Decimal | None = None


class GroupLag(msgspec.Struct, frozen=True):
    """Records that wait for one consumer group, over all of its workers that answered."""

    group: str
    records: int
    workers: int


class Snapshot(msgspec.Struct, frozen=True):
    """What the live page shows."""

    at: datetime
    orders_per_s: float
    per_second: tuple[int, ...]
    last_minute: LastMinute
    lag: tuple[GroupLag, ...]
    orders: tuple[OrderRow, ...]
    alerts: tuple[Raised, ...]
    unreachable: tuple[str, ...] = ()


class Snapshots:
    """Gathers snapshots: one at a time, however many ask. Used in the web thread."""

    def __init__(
        self, places: Places, pulse: PulseViews, activity: Activity, windows: WindowViews, orders: ServedReadModel
    ) -> None:
        self._places = places
        self._pulse = pulse
        self._activity = activity
        self._windows = windows
        self._served = orders
        self._table = read_model_of(ORDERS)
        self._rows: dict[str, OrderRow] = {}
        self._lock = asyncio.Lock()
        self._last: tuple[float, Snapshot] | None = None

    async def get(self, request: web.Request) -> Snapshot:
        """A snapshot that is at most `KEEP_S` old."""
        async with self._lock:
            if self._last is None or time.monotonic() - self._last[0] > KEEP_S:
                self._last = (time.monotonic(), await self._gather(request))
            return self._last[1]

    async def _gather(self, request: web.Request) -> Snapshot:
        orders, (pulses, unreachable), minute = await asyncio.gather(
            self._orders(request), self._pulses(), self._last_minute(request)
        )
        begun = [sum(column) for column in zip(*(pulse.begun for pulse in pulses), strict=True)]
        return Snapshot(
            at=datetime.now(UTC),
            orders_per_s=sum(begun[-RATE_SECONDS:]) / RATE_SECONDS,
            per_second=tuple(begun),
            last_minute=minute or LastMinute(sum(begun)),
            lag=_lag_of(pulses),
            orders=orders,
            alerts=tuple(self._activity.alerts),
            unreachable=unreachable,
        )

    async def _last_minute(self, request: web.Request) -> LastMinute | None:
        """The window's figure, by the orders' own time; `None` while a partition of it cannot be asked."""
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                row = await self._windows.now(request, ORDERS_LAST_MINUTE)
        except (Problem, TimeoutError):
            return None
        return LastMinute(row.count, row.total)

    async def _pulses(self) -> tuple[list[Pulse], tuple[str, ...]]:
        me = self._places.app.fleet_settings
        others = {e.url: e for e in self._places.app.directory.entries() if not e.standby and e.worker != me.worker}
        answers = await asyncio.gather(*map(self._ask_pulse, others.values()))
        told = [pulse for pulse in answers if pulse is not None and len(pulse.begun) == SECONDS]
        silent = tuple(e.worker for e, pulse in zip(others.values(), answers, strict=True) if pulse is None)
        return [self._pulse.now(), *told], silent

    async def _ask_pulse(self, entry: Entry) -> Pulse | None:
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                status, body, _ = await self._places.ask(entry, "GET", "/pulse")
            return msgspec.json.decode(body, type=Pulse) if status == 200 else None
        except (Problem, TimeoutError, msgspec.DecodeError):
            return None

    # The newest orders: notifications said which, the read model says what they look like

    async def _orders(self, request: web.Request) -> tuple[OrderRow, ...]:
        seen = self._activity.orders
        rows = await asyncio.gather(*(self._order(request, one) for one in seen))
        self._rows = {row.order_id: row for row in rows if row is not None}
        return tuple(row for row in rows if row is not None)

    async def _order(self, request: web.Request, seen: Seen) -> OrderRow | None:
        known = self._rows.get(seen.order_id)
        if known is not None and known.version >= seen.version:
            return known
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                return await self._ask_order(request, seen.order_id) or known
        except (Problem, TimeoutError):  # its partition moves: what was known of it is better than nothing
            return known

    async def _ask_order(self, request: web.Request, order_id: str) -> OrderRow | None:
        partition, agent = self._places.partition(order_id), self._places.live(self._served)
        shard = self._places.here(agent, partition)
        if shard is not None:
            raw = store_of(shard).get(self._table.prefix + order_id.encode())
            return None if raw is None else self._table.decode(raw).row
        entry = self._places.owner(request, agent, partition)
        status, body, _ = await self._places.ask(entry, "GET", f"/{ORDERS.name}/{quote(order_id, safe='')}")
        return _decode_row(body) if status == 200 else None


def _lag_of(pulses: Sequence[Pulse]) -> tuple[GroupLag, ...]:
    groups: dict[str, list[int]] = {}
    for pulse in pulses:
        groups.setdefault(pulse.group, []).append(pulse.lag)
    return tuple(GroupLag(group, sum(lags), len(lags)) for group, lags in sorted(groups.items()))


def _decode_row(body: bytes) -> OrderRow | None:
    try:
        row: Any = msgspec.json.decode(body, type=OrderRow)
    except msgspec.DecodeError:
        return None
    return row if isinstance(row, OrderRow) else None
