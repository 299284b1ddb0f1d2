"""Sends single records from outside of any pipeline: commands that came over HTTP, the time, who stands by."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from app.kernel.errors import BrokerUnavailable
from app.runtime.ports import Header, TopicPartition

IN_FLIGHT_MAX = 2_000


class RecordSender:
    """An idempotent producer that is started by the first record, in the loop of its caller."""

    def __init__(self, brokers: str, *, timeout_s: float = 10.0) -> None:
        self._brokers = brokers
        self._timeout_s = timeout_s
        self._producer: Any = None
        self._starting = asyncio.Lock()
        self._in_flight = 0

    async def send(
        self, partition: TopicPartition, key: bytes | None, value: bytes | None, headers: Sequence[Header] = ()
    ) -> int:
        """Send and wait until the record is replicated; its offset. `BrokerUnavailable` where that is not certain."""
        if self._in_flight >= IN_FLIGHT_MAX:
            raise BrokerUnavailable(f"{IN_FLIGHT_MAX} records are waiting for the brokers already")
        self._in_flight += 1
        try:
            async with asyncio.timeout(self._timeout_s):
                producer = await self._started()
                sent = await producer.send_and_wait(
                    partition.topic, value, key=key, partition=partition.partition, headers=list(headers)
                )
        except (KafkaError, OSError, TimeoutError) as error:
            raise BrokerUnavailable(f"the brokers did not confirm the record: {error!r}") from error
        finally:
            self._in_flight -= 1
        offset: int = sent.offset
        return offset

    async def _started(self) -> Any:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._brokers,
                    enable_idempotence=True,
                    linger_ms=0,
                    request_timeout_ms=int(self._timeout_s * 1000),
                )
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
        return self._producer

    async def close(self) -> None:
        """Let the connections go."""
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                async with asyncio.timeout(self._timeout_s):
                    await producer.stop()
            except (KafkaError, OSError, TimeoutError):
                return
