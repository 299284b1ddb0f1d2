"""Notifications: of what was committed, thin, and never in the way of the worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from agents.alerting import alerting
from agents.indexing import indexing
from app.buses.event import BusEvent
from app.buses.memory import MemoryBus
from app.catalogue import decoder_of
from app.domain.order import ORDER, OrderCreated
from app.filters.high_value import HIGH_VALUE
from app.kernel import Envelope
from app.kernel.errors import BusUnavailable
from app.runtime.codec import Codec
from app.runtime.shard import Shard
from app.runtime.topics import Topics
from app.runtime.unit import Emitted
from app.views.live import notifier as module
from app.views.live.notifier import Notifier
from app.views.live.pulse import SECONDS, PulseViews
from tables.event_store import HISTORY, history_key

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
TOPICS = Topics("p.")
INDEXING = Shard(indexing(ORDER.category, TOPICS, decoder_of(ORDER)), 0)
ALERTING = Shard(alerting(HIGH_VALUE, TOPICS, {ORDER.category: decoder_of(ORDER)}, 4)[0], 0)


def rows(*ids: str, version: int = 1) -> dict[bytes, bytes | None]:
    """What indexing writes for one event of each stream."""
    codec = Codec.of_events(ORDER)
    found: dict[bytes, bytes | None] = {}
    for id_ in ids:
        created = OrderCreated(id_, "c", "Ada", "a@example.org", (), 0)  # type: ignore[arg-type]
        raw = codec.encode(Envelope(f"e-{id_}", id_, NOON, created, version), "/x")
        found[HISTORY.prefix + history_key(id_, version)] = HISTORY.encode(raw)
    return found


@asynccontextmanager
async def running(bus: Any) -> AsyncIterator[Notifier]:
    made = Notifier(bus, {INDEXING.agent.name: ORDER.category}, TOPICS.alerts)
    task = asyncio.create_task(made.run())
    await asyncio.sleep(0)
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def heard_of(count: int, bus: MemoryBus) -> None:
    async with asyncio.timeout(5):
        while bus.stats.handled < count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.fixture
async def heard() -> list[BusEvent]:
    return []


@pytest.fixture
async def bus(heard: list[BusEvent]) -> AsyncIterator[MemoryBus]:
    made = MemoryBus()

    async def hear(event: BusEvent) -> None:
        heard.append(event)

    made.subscribe(hear)
    await made.start()
    yield made
    await made.stop()


async def test_an_event_that_can_be_found_is_told_of_without_its_data(bus: MemoryBus, heard: list[BusEvent]) -> None:
    async with running(bus) as notifier:
        notifier.round_done(INDEXING, rows("o-1", version=3), [])
        await heard_of(1, bus)
    assert heard == [BusEvent("e-o-1", "order.created.v1", "o-1", NOON, 3, None, source="/eventfleet/orders")]


async def test_an_alert_is_told_of(bus: MemoryBus, heard: list[BusEvent]) -> None:
    wire = (
        b'{"id": "e:high-value", "type": "alert.raised.v1", "source": "/eventfleet/filters/high-value",'
        b' "subject": "o-1", "time": "2026-03-01T12:00:00Z", "data": {"filter": "high-value"}, "specversion": "1.0"}'
    )
    async with running(bus) as notifier:
        notifier.round_done(ALERTING, {}, [Emitted(TOPICS.alerts, 0, b"o-1", wire, ()), Emitted("x", 0, b"", b"", ())])
        await heard_of(1, bus)
    (alert,) = heard
    assert (alert.id, alert.type, alert.stream_id, alert.data) == ("e:high-value", "alert.raised.v1", "o-1", None)
    assert alert.source.endswith("/high-value")


async def test_what_other_agents_do_is_nobodys_news(bus: MemoryBus) -> None:
    async with running(bus) as notifier:
        notifier.round_done(ALERTING, rows("o-1"), [])
        notifier.round_done(INDEXING, {b"\0meta": b"x"}, [])
        notifier.round_done(INDEXING, rows("o-2"), [])
        await heard_of(1, bus)
        assert bus.stats.published == 1


async def test_a_crowd_drops_the_oldest_and_counts_them(
    bus: MemoryBus, heard: list[BusEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAITING_MAX", 5)
    async with running(bus) as notifier:
        notifier.round_done(INDEXING, rows(*(f"o-{n}" for n in range(9))), [])
        await heard_of(5, bus)
    assert [event.stream_id for event in heard] == [f"o-{n}" for n in range(4, 9)]
    assert notifier.stats == {"published": 5, "dropped": 4}


async def test_a_bus_that_is_away_loses_notifications_and_nothing_else(bus: MemoryBus) -> None:
    class Away:
        gone = True

        async def publish(self, *events: BusEvent) -> None:
            if self.gone:
                raise BusUnavailable("away")
            await bus.publish(*events)

    away = Away()
    async with running(away) as notifier:
        notifier.round_done(INDEXING, rows("o-1"), [])
        async with asyncio.timeout(5):
            while notifier.stats["dropped"] == 0:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        away.gone = False
        notifier.round_done(INDEXING, rows("o-2"), [])
        await heard_of(1, bus)
    assert notifier.stats == {"published": 1, "dropped": 1}


def test_the_pulse_counts_streams_that_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    app: Any = SimpleNamespace(fleet_settings=SimpleNamespace(group="g"), lag={"a": 3, "b": 4})
    now = 1_000_000.5
    monkeypatch.setattr("app.views.live.pulse.time.time", lambda: now)
    pulse = PulseViews(app, INDEXING.agent.name)
    pulse.round_done(INDEXING, rows("a", "b", "c"), [])
    pulse.round_done(INDEXING, rows("a", "b", version=2), [])
    pulse.round_done(ALERTING, rows("x"), [])
    now += 2
    pulse.round_done(INDEXING, rows("d"), [])
    now += 1
    told = pulse.now()
    assert (told.group, told.lag, len(told.begun), told.begun[-4:]) == ("g", 7, SECONDS, (0, 3, 0, 1))
    now += SECONDS
    assert sum(pulse.now().begun) == 0
