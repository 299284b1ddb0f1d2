"""Sends single records from outside of any pipeline: commands that came over HTTP, the time, who stands by."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from aiokafka.errors import KafkaError

from app.kernel.errors import BrokerUnavailable
from app.runtime.kafka.client import EndableProducer
from app.runtime.kafka.connection import Connection
from app.runtime.ports import Header, TopicPartition

IN_FLIGHT_MAX = 2_000
END_TIMEOUT_S = 2.0


class RecordSender:
    """An idempotent producer that is started by the first record, in the loop of its caller.

    One that a broker has refused is given up, and the next record starts another: a hole in its sequence (a leader may
    lose what no other replica had) would have the broker refuse everything that it sends later.
    """

    def __init__(self, brokers: str, *, timeout_s: float = 10.0) -> None:
        self._options = Connection(brokers, request_timeout_ms=int(timeout_s * 1000)).client_options
        self._timeout_s = timeout_s
        self._producer: EndableProducer | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._starting = asyncio.Lock()
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
                producer = await self._started()
                sent = await producer.send_and_wait(
                    partition.topic, value, key=key, partition=partition.partition, headers=list(headers)
                )
        except (KafkaError, OSError, TimeoutError) as error:
            if not isinstance(error, TimeoutError):  # what merely takes long goes on, and holds up no other partition
                self._give_up(producer)
            raise BrokerUnavailable(f"the brokers did not confirm the record: {error!r}") from error
        finally:
            self._in_flight -= 1
        offset: int = sent.offset
        return offset

    async def _started(self) -> EndableProducer:
        async with self._starting:
            if self._producer is not None and self._producer.gone:
                self._give_up(self._producer)
            if self._producer is None:
                producer = EndableProducer(enable_idempotence=True, **self._options)
                try:
                    await producer.start()
                except BaseException:
                    await asyncio.shield(producer.end(END_TIMEOUT_S))
                    raise
                self._producer = producer
        return self._producer

    def _give_up(self, producer: EndableProducer | None) -> None:
        if producer is not None and producer is self._producer:
            self._producer = None
            ending = asyncio.create_task(producer.end(END_TIMEOUT_S))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """Let the connections go: what was sent in time is delivered, what was not is dropped."""
        producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(KafkaError, OSError, TimeoutError):
                async with asyncio.timeout(self._timeout_s):
                    await producer.flush()
            await producer.end(END_TIMEOUT_S)
        if self._ending:
            await asyncio.wait(self._ending)
