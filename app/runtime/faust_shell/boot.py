"""Starting up: the web server first, so that probes are answered; then wait for the brokers; then Faust's services."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
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
    """Waits for a broker and for every topic: a worker that starts in an outage waits instead of exiting."""

    def __init__(self, app: Any, cluster: Cluster, topics: Sequence[str]) -> None:
        self._app = app
        self._cluster = cluster
        self._topics = list(topics)
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
            found = await asyncio.wait_for(self._cluster.topic_ids(self._topics), TRY_TIMEOUT_S)
        except (KafkaError, OSError, TimeoutError, FleetError) as error:
            return f"the brokers ({type(error).__name__})"
        missing = [topic for topic in self._topics if topic not in found]
        return f"the topics {', '.join(missing)}: make them with `fleet topics`" if missing else None


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
