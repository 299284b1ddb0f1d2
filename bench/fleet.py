"""A fleet of a benchmark's own: a fresh Kafka and workers of the role `all`, gone at the end."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.catalogue import CATALOGUE
from app.local.errors import LocalFleetError
from app.local.kafka import LocalKafka
from app.local.ports import free_ports
from app.local.processes import wait_until
from app.local.workers import LocalWorker
from app.runtime.kafka.admin import ensure_topics
from app.runtime.settings import Settings

READY_TIMEOUT_S = 60.0


@contextmanager
def running_fleet(workers: int) -> Iterator[tuple[list[LocalWorker], Settings]]:
    """The workers, once all are ready, and the settings that reach them. `LocalFleetError` where they do not start."""
    directory = Path(tempfile.mkdtemp(prefix="eventfleet-bench-"))
    kafka = LocalKafka(directory / "kafka", free_ports(2))
    settings = Settings(brokers=kafka.brokers)
    port = free_ports(workers)
    fleet = [LocalWorker(f"w{n}", "all", port + n, directory, kafka.brokers) for n in range(workers)]
    try:
        kafka.start(with_parent=True)
        asyncio.run(ensure_topics(kafka.brokers, CATALOGUE.topics(settings), settings.partitions, 1))
        for worker in fleet:
            worker.start(with_parent=True)
        if not wait_until(lambda: all((w.readiness() or {}).get("ready") for w in fleet), READY_TIMEOUT_S):
            raise LocalFleetError(f"the workers did not become ready within {READY_TIMEOUT_S:.0f} s")
        yield fleet, settings
    finally:
        for worker in fleet:
            worker.stop()
        kafka.stop()
        shutil.rmtree(directory, ignore_errors=True)
