"""The buses that the contract is held against, and ears that remember what they heard."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from app.buses.contract import WAITING_MAX, EventBus, Failure
from app.buses.event import BusEvent
from app.buses.kafka import KafkaBus, dead_letters_of
from app.buses.memory import MemoryBus
from app.buses.redis import RedisBus
from app.runtime.kafka.admin import ensure_topics
from app.runtime.topics import Topic

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PARTITIONS = 3
WAIT_S = 20.0


def event(id_: str, stream: str = "s", type_: str = "order.created.v1", **more: Any) -> BusEvent:
    """A thin event."""
    return BusEvent(id_, type_, stream, NOON, **more)


def events(count: int, *streams: str) -> list[BusEvent]:
    """`count` events, over the streams in turn, numbered."""
    return [event(f"{n:03d}", streams[n % len(streams)], version=n // len(streams) + 1) for n in range(count)]


def whole(id_: str) -> BusEvent:
    """An event with data."""
    return event(id_, data=msgspec.Raw(b'{"order_id":"s","total":"7.00"}'))


class Ear:
    """A handler that remembers, and may be slow, closed for a while, or broken."""

    def __init__(self, *, pause_s: float = 0.0, broken_for: str | None = None) -> None:
        self.heard: list[BusEvent] = []
        self.at_once = self.at_once_most = self.calls = 0
        self.open = asyncio.Event()
        self.open.set()
        self._pause_s, self._broken_for = pause_s, broken_for

    async def __call__(self, heard: BusEvent) -> None:
        self.calls += 1
        self.at_once += 1
        self.at_once_most = max(self.at_once_most, self.at_once)
        try:
            await self.open.wait()
            await asyncio.sleep(self._pause_s)
            if heard.id == self._broken_for:
                raise ValueError(f"cannot bear {heard.id}")
            self.heard.append(heard)
        finally:
            self.at_once -= 1

    @property
    def ids(self) -> list[str]:
        """What was heard, in order."""
        return [heard.id for heard in self.heard]

    def ids_of(self, stream: str) -> list[str]:
        """What was heard of one stream, in order."""
        return [heard.id for heard in self.heard if heard.stream_id == stream]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for it, not for ever."""
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - what is waited for happens behind a bus
            await asyncio.sleep(0.01)


class TestedBus(ABC):
    """A kind of bus, and places for its failures. Buses of one medium hear each other, but for those in memory."""

    __test__ = False
    keeps_what_waits = False
    reaches_others = True

    def __init__(self) -> None:
        self.failures: list[Failure] = []
        self.report_fails = False
        self._made: list[EventBus] = []

    def report(self, failure: Failure) -> None:
        """Where the buses report to."""
        self.failures.append(failure)
        if self.report_fails:
            raise ZeroDivisionError("the place that failures are reported to has one of its own")

    def bus(self, waiting_max: int = WAITING_MAX) -> EventBus:
        """A bus on the medium; stopped at the end of the test."""
        made = self._make(waiting_max)
        self._made.append(made)
        return made

    @abstractmethod
    def _make(self, waiting_max: int) -> EventBus: ...

    async def started(self, *ears: Ear, group: str | None = None, waiting_max: int = WAITING_MAX) -> EventBus:
        """A bus that listens with these ears, to everything."""
        bus = self.bus(waiting_max)
        for ear in ears:
            bus.subscribe(ear, group=group)
        await self.listen(bus)
        return bus

    async def listen(self, *buses: EventBus) -> None:
        """Start the buses and wait until they hear."""
        for bus in buses:
            await bus.start()
        await until(lambda: all(bus.listening for bus in buses))

    async def close(self) -> None:
        """Stop every bus."""
        await asyncio.gather(*(bus.stop() for bus in self._made))


class InMemory(TestedBus):
    """Within the process."""

    reaches_others = False

    def __init__(self, *, sequential: bool) -> None:
        super().__init__()
        self.sequential = sequential

    def _make(self, waiting_max: int) -> EventBus:
        return MemoryBus(sequential=self.sequential, waiting_max=waiting_max, report=self.report)


class OnRedis(TestedBus):
    """A real redis-server."""

    def __init__(self, url: str, channel: str) -> None:
        super().__init__()
        self._url, self._channel = url, channel

    def _make(self, waiting_max: int) -> EventBus:
        return RedisBus(self._url, self._channel, waiting_max=waiting_max, report=self.report)


class OnKafka(TestedBus):
    """A real broker."""

    keeps_what_waits = True

    def __init__(self, brokers: str, topic: str) -> None:
        super().__init__()
        self.brokers, self.topic = brokers, topic

    async def make_topics(self) -> None:
        """Make the bus's topics."""
        topics = [Topic(self.topic, partitions=PARTITIONS), Topic(dead_letters_of(self.topic), partitions=1)]
        await ensure_topics(self.brokers, topics, PARTITIONS, 1)

    def _make(self, waiting_max: int) -> EventBus:
        return KafkaBus(self.brokers, self.topic, report=self.report)
