"""Delivers commands to Kafka whatever happens to it, and follows topics likewise."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from aiokafka.structs import TopicPartition

from chaos.ledger import Ledger

RETRY_S = 0.2
REQUEST_TIMEOUT_MS = 5_000
METADATA_AGE_MS = 3_000
BATCH_BYTES_MAX = 512 << 10
"""After an outage thousands wait: with aiokafka's 16 KiB, one batch at a time and partition, they would for minutes."""
SEND_TIMEOUT_S = 15.0
"""aiokafka has its own, but nobody is told of a record that was left in a producer that could not be stopped."""
STOP_TIMEOUT_S = 5.0
TOUCHY: dict[str, Any] = {"request_timeout_ms": REQUEST_TIMEOUT_MS, "metadata_max_age_ms": METADATA_AGE_MS}


class Postman:
    """Sends a record until a broker acknowledges it, however often that takes: so it may arrive more than once."""

    def __init__(self, brokers: str) -> None:
        self._brokers = brokers
        self._producer: Any = None
        self._starting = asyncio.Lock()

    async def send(self, topic: str, partition: int, key: bytes, value: bytes | None) -> None:
        """Return when it is acknowledged."""
        while True:
            producer = None
            try:
                producer = await self._started()
                async with asyncio.timeout(SEND_TIMEOUT_S):
                    await producer.send_and_wait(topic, value, key=key, partition=partition)
            except (KafkaError, OSError):
                await self._drop(producer)
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def _started(self) -> Any:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._brokers.split(","),
                    acks="all",
                    linger_ms=0,
                    max_batch_size=BATCH_BYTES_MAX,
                    **TOUCHY,
                )
                try:
                    await producer.start()
                except BaseException:
                    await _stop(producer)
                    raise
                self._producer = producer
            return self._producer

    async def _drop(self, producer: Any) -> None:
        """A producer that has failed once is not trusted any more; whoever else waits for it begins anew as well."""
        if producer is not None and producer is self._producer:
            self._producer = None
            await _stop(producer)

    async def close(self) -> None:
        """Let the connections go."""
        await self._drop(self._producer)


class News(NamedTuple):
    """A settled record."""

    topic: str
    value: bytes | None


async def follow(
    brokers: str, topics: Sequence[str], partitions: int, ledger: Ledger, ready: asyncio.Event
) -> AsyncGenerator[News, None]:
    """Every settled record of the topics, each once, from their beginning, for ever.

    A log that ends before what was read of it has lost records: that is told to the ledger.
    """
    positions = {TopicPartition(topic, number): 0 for topic in topics for number in range(partitions)}
    while True:
        consumer: Any = AIOKafkaConsumer(
            bootstrap_servers=brokers.split(","),
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_wait_ms=100,
            **TOUCHY,
        )
        try:
            await consumer.start()
            consumer.assign(list(positions))
            for partition, position in positions.items():
                consumer.seek(partition, position)
            ready.set()
            while True:
                fetched = await consumer.getmany(timeout_ms=500)
                for partition, records in fetched.items():
                    for record in records:
                        yield News(partition.topic, record.value)
                        positions[partition] = record.offset + 1
        except OffsetOutOfRangeError as error:
            ledger.violation(f"a log no longer has what was read of it: {error!r}")
            return
        except (KafkaError, OSError):
            await asyncio.sleep(RETRY_S)
        finally:
            await _stop(consumer)


async def _stop(client: Any) -> None:
    """Stop an aiokafka client, as far as it lets itself be stopped."""
    stopping = asyncio.create_task(client.stop())
    await asyncio.wait({stopping}, timeout=STOP_TIMEOUT_S)
    if not stopping.done():
        stopping.cancel()
    sending: asyncio.Task[None] | None = getattr(getattr(client, "_sender", None), "_sender_task", None)
    if sending is not None:
        sending.cancel()  # aiokafka leaves it behind where its start or its stop has failed
    with contextlib.suppress(KafkaError, OSError, asyncio.CancelledError):
        await stopping
