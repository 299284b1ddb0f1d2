"""An unruly desk: sends commands of any aggregate over Kafka, some of them twice, all of them shuffled within ten."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer

from app.catalogue import CATALOGUE
from app.kernel import Command, Envelope, stream_id_of
from app.runtime.codec import Codec, utc_now
from app.runtime.settings import Settings
from app.runtime.topics import Topics, partition_of
from loadtest import connecting
from loadtest.unruly import SHUFFLE_WITHIN, unruly

WAIT_S = 0.05
"""Commands wait so long, at most, for others to be shuffled with."""
FLUSH_TIMEOUT_S = 15.0
SOURCE = "/eventfleet/loadtest"


class _Record(NamedTuple):
    topic: str
    partition: int
    key: bytes
    value: bytes


class UnrulyDesk:
    """Sends. `failed` is told of what could not be produced. `doubled` counts what was sent twice."""

    def __init__(self, settings: Settings, seed: int, failed: Callable[[str], None]) -> None:
        self.doubled = 0
        self._settings, self._seed, self._failed = settings, seed, failed
        topics = Topics(settings.topic_prefix)
        self._by_kind = {
            kind: (topics.commands(aggregate.category), codec)
            for aggregate in CATALOGUE.aggregates
            for codec in [Codec(aggregate.commands)]
            for kind in aggregate.commands
        }
        self._waiting: list[_Record] = []
        self._enough = asyncio.Event()
        self._sending: asyncio.Task[None] | None = None
        self._producer: Any = AIOKafkaProducer(bootstrap_servers=settings.brokers, enable_idempotence=True, linger_ms=0)

    async def start(self) -> None:
        """Connect."""
        await connecting.start(self._producer, self._settings.brokers)
        self._sending = asyncio.create_task(self._send_on())

    def send(self, command_id: str, command: Command) -> None:
        """Hand a command over: it goes out within a moment, maybe twice, maybe before or after its neighbours."""
        topic, codec = self._by_kind[type(command)]
        id_ = stream_id_of(command)
        value = codec.encode(Envelope(command_id, id_, utc_now(), command), SOURCE)
        record = _Record(topic, partition_of(id_, self._settings.partitions), id_.encode(), value)
        self._waiting.append(record)
        if len(self._waiting) >= SHUFFLE_WITHIN:
            self._enough.set()

    async def _send_on(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._enough.wait(), WAIT_S)
            self._enough.clear()
            await self._send_what_waits()

    async def _send_what_waits(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._seed += 1
        shuffled = unruly(waiting, seed=self._seed)
        self.doubled += len(shuffled) - len(waiting)
        for topic, partition, key, value in shuffled:
            produced = await self._producer.send(topic, value, key=key, partition=partition)
            produced.add_done_callback(self._note)

    def _note(self, produced: asyncio.Future[Any]) -> None:
        if not produced.cancelled() and (error := produced.exception()) is not None:
            self._failed(f"a command could not be produced: {error!r}")

    async def finish(self) -> None:
        """Send what waits, and wait for what was sent."""
        await self._send_what_waits()
        async with asyncio.timeout(FLUSH_TIMEOUT_S):
            await self._producer.flush()

    async def stop(self) -> None:
        """Disconnect."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)
        await connecting.stop(self._producer)
