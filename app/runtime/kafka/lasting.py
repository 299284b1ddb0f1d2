"""An idempotent producer for whoever sends outside of transactions, and a new one where a broker has refused it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from aiokafka.errors import KafkaError

from app.runtime.kafka.client import EndableProducer
from app.runtime.kafka.connection import Connection

END_TIMEOUT_S = 2.0


class LastingProducer:
    """Starts a producer for its first user, in that one's loop, and replaces it where it is of no use any more.

    One that a broker has refused is given up, and the next user starts another: a hole in its sequence (a leader may
    lose what no other replica had) would have the broker refuse everything that it sends later.
    """

    def __init__(self, connection: Connection, **options: Any) -> None:
        self._options = connection.client_options | options
        self.present: EndableProducer | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._starting = asyncio.Lock()

    async def started(self) -> EndableProducer:
        """The present producer, or a new one."""
        async with self._starting:
            if self.present is not None and self.present.gone:
                self.give_up(self.present)
            if self.present is None:
                producer = EndableProducer(enable_idempotence=True, **self._options)
                try:
                    await producer.start()
                except BaseException:
                    await asyncio.shield(producer.end(END_TIMEOUT_S))
                    raise
                self.present = producer
        return self.present

    def failed(self, producer: EndableProducer | None, error: BaseException) -> None:
        """What a use of the producer has met: what merely takes long goes on, and holds up no other partition."""
        if not isinstance(error, TimeoutError):
            self.give_up(producer)

    def give_up(self, producer: EndableProducer | None) -> None:
        """Use it no more, and end it in the background."""
        if producer is not None and producer is self.present:
            self.present = None
            ending = asyncio.create_task(producer.end(END_TIMEOUT_S))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)

    async def close(self, flush_s: float) -> None:
        """Let the connections go: what was sent is delivered if it can be in time, what was not is dropped."""
        producer, self.present = self.present, None
        if producer is not None:
            with contextlib.suppress(KafkaError, OSError, TimeoutError):
                async with asyncio.timeout(flush_s):
                    await producer.flush()
            await producer.end(END_TIMEOUT_S)
        if self._ending:
            await asyncio.wait(self._ending)
