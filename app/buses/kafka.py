"""The bus over a Kafka topic: the ordering key is the partition key, a group is a consumer group.

A subscription with a group is served at least once: offsets are committed after its handlers, so a death between the
two repeats events. A handler that fails is tried `ATTEMPTS` times; then the failure is reported, the record goes whole
to `<topic>.deadletters` with its cause, and the partition goes on. Should the dead letter not be written, nothing is
committed and the record comes again.

A subscription without a group hears what is published while it listens, with no offsets, no repetition and no dead
letters: at most once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from aiokafka.errors import KafkaError

from app.buses.contract import (
    PUBLISH_TIMEOUT_S,
    STOP_TIMEOUT_S,
    BusStats,
    Handler,
    Report,
    Subscription,
    Subscriptions,
    report_to_log,
)
from app.buses.event import BusEvent, encode, in_sequence
from app.buses.kafka_hearing import ATTEMPTS, Hearing
from app.kernel.errors import BusUnavailable
from app.runtime.kafka.client import EndableProducer
from app.runtime.kafka.connection import Connection
from app.runtime.kafka.lasting import LastingProducer
from app.runtime.topics import partition_of

Keyed = tuple[bytes, bytes]

BATCH_BYTES_MAX = 256 << 10
CAUSE_BYTES_MAX = 1_000


def dead_letters_of(topic: str) -> str:
    """Where a bus's groups put what they could not handle."""
    return f"{topic}.deadletters"


class KafkaBus:
    """See the contract. All events of this bus go to `topic`; groups are named after it."""

    def __init__(self, brokers: str, topic: str, *, report: Report = report_to_log) -> None:
        self.stats = BusStats()
        self._connection = Connection(brokers)
        self._producer = LastingProducer(self._connection, max_batch_size=BATCH_BYTES_MAX)
        self._topic = topic
        self._report = report
        self._subscriptions = Subscriptions()
        self._hearing: list[Hearing] = []

    @property
    def listening(self) -> bool:
        """Whether every subscription has its partitions and its place in them."""
        return bool(self._hearing) and all(hearing.listening for hearing in self._hearing)

    def subscribe(self, handler: Handler, types: Iterable[str] = (), *, group: str | None = None) -> None:
        """See the contract."""
        self._subscriptions.add(handler, types, group)

    async def publish(self, *events: BusEvent) -> None:
        """See the contract."""
        self._subscriptions.check_started()
        if not events:
            return
        await self._send(
            f"{len(events)} events for {self._topic}", lambda producer: self._send_batches(producer, events)
        )
        self.stats.published += len(events)

    async def publish_in_sequence(self, events: Sequence[BusEvent], key: str | None = None) -> None:
        """See the contract."""
        await self.publish(*in_sequence(events, key))

    async def start(self) -> None:
        """See the contract."""
        for subscription in self._subscriptions.begin():
            hearing = Hearing(
                self._connection, self._topic, subscription, self.stats, report=self._report, bury=self._bury
            )
            hearing.start()
            self._hearing.append(hearing)

    async def stop(self) -> None:
        """See the contract."""
        self._subscriptions.end()
        await asyncio.gather(*(hearing.stop() for hearing in self._hearing))
        await self._producer.close(STOP_TIMEOUT_S)

    # Publishing

    async def _send_batches(self, producer: EndableProducer, events: Sequence[BusEvent]) -> None:
        """In batches made here, one after the other within a partition: a tenth of the cost of single records."""
        partitions = len(await producer.partitions_for(self._topic))
        sent = []
        for number, records in _by_partition(events, partitions).items():
            for batch in _batches(producer, records):
                sent.append(await producer.send_batch(batch, self._topic, partition=number))
        await asyncio.gather(*sent)

    async def _send(self, what: str, send: Callable[[EndableProducer], Awaitable[object]]) -> None:
        producer: EndableProducer | None = None
        try:
            async with asyncio.timeout(PUBLISH_TIMEOUT_S):
                producer = await self._producer.started()
                await send(producer)
        except (KafkaError, OSError, TimeoutError) as error:
            self._producer.failed(producer, error)
            raise BusUnavailable(f"Kafka did not take {what}: {error!r}") from error

    async def _bury(self, subscription: Subscription, record: Any, error: Exception) -> None:
        """Keep what a group could not handle, whole, with its cause."""
        headers = [
            ("cause", b"raised"),
            ("cause-detail", f"{type(error).__name__}: {error}".encode()[:CAUSE_BYTES_MAX]),
            ("attempts", str(ATTEMPTS).encode()),
            ("subscription", subscription.name.encode()),
            ("source-topic", record.topic.encode()),
            ("source-partition", str(record.partition).encode()),
            ("source-offset", str(record.offset).encode()),
        ]
        topic = dead_letters_of(self._topic)
        await self._send(
            f"a dead letter for {topic}",
            lambda producer: producer.send_and_wait(topic, record.value or b"", record.key or b"", headers=headers),
        )
        self.stats.dead_lettered += 1


_partition_of = lru_cache(maxsize=10_000)(partition_of)
"""Kafka's hash is slow in Python, and a stream's events come one soon after the other."""


def _by_partition(events: Sequence[BusEvent], partitions: int) -> dict[int, list[Keyed]]:
    found: dict[int, list[Keyed]] = {}
    for event in events:
        key = event.ordered_by.encode()
        found.setdefault(_partition_of(key, partitions), []).append((key, encode(event)))
    return found


def _batches(producer: Any, records: Iterable[Keyed]) -> Iterator[Any]:
    batch = producer.create_batch()
    for key, value in records:
        if batch.append(key=key, value=value, timestamp=None) is None:
            yield batch
            batch = producer.create_batch()
            batch.append(key=key, value=value, timestamp=None)  # the first of a batch may be of any size
    yield batch
