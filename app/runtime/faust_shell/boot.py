"""Starting up: the web server first, so that probes are answered; then wait for the brokers; then Faust's services."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, cast

from aiokafka.errors import KafkaError
from faust.app.base import BootStrategy
from mode import Service

from app.kernel.errors import FleetError
from app.runtime.ports import Cluster

log = logging.getLogger(__name__)

TRY_EVERY_S = 1.0
TRY_TIMEOUT_S = 10.0


class BrokerGate(Service):
    """Waits for a broker and for every topic: a worker that starts in an outage waits instead of exiting.

    Which topics are needed may be known only when others were read: `first` are those, `learn` reads them, and
    `topics()` says what is needed then.
    """

    def __init__(
        self,
        app: Any,
        cluster: Cluster,
        *,
        first: Sequence[str],
        learn: Callable[[], Awaitable[None]],
        topics: Callable[[], Sequence[str]],
    ) -> None:
        self._app = app
        self._cluster = cluster
        self._first, self._learn, self._topics = first, learn, topics
        self._learnt = False
        self.waiting_for: str | None = "the brokers"
        super().__init__()

    async def on_start(self) -> None:
        """Return when the world is there, or when the worker is told to stop."""
        while (missing := await self._missing()) is not None and not self._stopping():
            if missing != self.waiting_for:
                log.warning("waiting for %s", missing)
            self.waiting_for = missing
            await asyncio.sleep(TRY_EVERY_S)
        if self._stopping():
            raise SystemExit(0)
        self.waiting_for = None

    def _stopping(self) -> bool:
        return bool(self.should_stop or self._app.should_stop)

    async def _missing(self) -> str | None:
        try:
            async with asyncio.timeout(TRY_TIMEOUT_S):
                missing = await self._not_there(self._first)
                if not missing and not self._learnt:
                    await self._learn()
                    self._learnt = True
                missing = missing or await self._not_there(self._topics())
        except (KafkaError, OSError, TimeoutError, FleetError) as error:
            return f"the brokers ({type(error).__name__})"
        return f"the topics {', '.join(missing)}: make them with `fleet topics`" if missing else None

    async def _not_there(self, topics: Sequence[str]) -> list[str]:
        found = await self._cluster.topic_ids(list(topics))
        return [topic for topic in topics if topic not in found]


class GatedBoot(BootStrategy):
    """Faust's services in another order: sensors, web, the gate, and only then whatever talks to Kafka."""

    def server(self) -> Iterable[Any]:
        """The services of a worker, in the order of their start."""
        return self._chain(
            self.sensors(),
            self.web_server(),
            [cast(Any, self.app).gate],
            self.kafka_producer(),
            self.kafka_consumer(),
            self.agents(),
            self.kafka_conductor(),
            self.tables(),
        )
