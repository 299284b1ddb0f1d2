"""Sends single records from outside of any pipeline: commands that came over HTTP, the time, who stands by."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiokafka.errors import KafkaError

from app.kernel.errors import BrokerUnavailable
from app.runtime.kafka.client import EndableProducer
from app.runtime.kafka.connection import Connection
from app.runtime.kafka.lasting import LastingProducer
from app.runtime.ports import Header, TopicPartition

IN_FLIGHT_MAX = 2_000


class RecordSender:
    """Sends through a producer that is started by the first record, in the loop of its caller."""

    def __init__(self, brokers: str, *, timeout_s: float = 10.0) -> None:
        self._producer = LastingProducer(Connection(brokers, request_timeout_ms=int(timeout_s * 1000)))
        self._timeout_s = timeout_s
        self._in_flight = 0

    async def send(
        self, partition: TopicPartition, key: bytes | None, value: bytes | None, headers: Sequence[Header] = ()
    ) -> int:
        """Send and wait until the record is replicated; its offset. `BrokerUnavailable` where that is not certain."""
        if self._in_flight >= IN_FLIGHT_MAX:
            raise BrokerUnavailable(f"{IN_FLIGHT_MAX} records are waiting for the brokers already")
        self._in_flight += 1
        producer: EndableProducer | None = None
        try:
            async with asyncio.timeout(self._timeout_s):
                producer = await self._producer.started()
                sent = await producer.send_and_wait(
                    partition.topic, value, key=key, partition=partition.partition, headers=list(headers)
                )
        except (KafkaError, OSError, TimeoutError) as error:
            self._producer.failed(producer, error)
            raise BrokerUnavailable(f"the brokers did not confirm the record: {error!r}") from error
        finally:
            self._in_flight -= 1
        offset: int = sent.offset
        return offset

    async def close(self) -> None:
        """Let the connections go: what was sent in time is delivered, what was not is dropped."""
        await self._producer.close(self._timeout_s)
