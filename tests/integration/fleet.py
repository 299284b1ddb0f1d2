"""A fleet of real workers on the tests' Kafka, loaded while things happen to it, and recounted."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from app.catalogue import CATALOGUE, Catalogue
from app.local.kafka import LocalKafka
from app.local.ports import free_ports
from app.local.workers import LocalWorker
from app.runtime.kafka.admin import ensure_topics
from app.runtime.settings import Settings
from app.runtime.topics import Topics
from loadtest.customers import population
from loadtest.drive import Driven, Progress, drive, run_name
from loadtest.recount import Recount, recount
from loadtest.schedule import schedule

READY_TIMEOUT_S = 40.0
SESSION_TIMEOUT_S = 3.0
PORTS = 4


class TestedFleet:
    """Workers by name, each with its own data directory."""

    __test__ = False

    def __init__(self, kafka: LocalKafka, prefix: str, directory: Path) -> None:
        self.settings = Settings(brokers=kafka.brokers, topic_prefix=prefix)
        self._directory = directory
        self._web_port = free_ports(PORTS)
        self._workers: dict[str, LocalWorker] = {}

    async def make_topics(self, catalogue: Catalogue = CATALOGUE) -> None:
        """Make this fleet's topics."""
        s = self.settings
        await ensure_topics(s.brokers, catalogue.topics(s), s.partitions, s.replication)

    def worker(
        self,
        name: str,
        role: str = "all",
        *,
        application: str = "app.main",
        environment: Mapping[str, str] | None = None,
        **settings: str,
    ) -> LocalWorker:
        """A worker, not yet started; the same one for the same name."""
        told = {
            **(environment or {}),
            "FLEET_TOPIC_PREFIX": self.settings.topic_prefix,
            "FLEET_SESSION_TIMEOUT": str(SESSION_TIMEOUT_S),
            "FLEET_HEARTBEAT_INTERVAL": "0.5",
            **{f"FLEET_{key.upper()}": value for key, value in settings.items()},
        }
        port = self._web_port + len(self._workers)
        brokers = self.settings.brokers
        made = LocalWorker(name, role, port, self._directory, brokers, settings=told, application=application)
        return self._workers.setdefault(name, made)

    async def up(self, *workers: LocalWorker) -> None:
        """Start the workers and wait until they serve."""
        for worker in workers:
            worker.start(with_parent=True)
        await self.ready(*workers)

    async def ready(self, *workers: LocalWorker) -> None:
        """Wait until each of them is ready and together they serve every bucket of their roles."""

        def serving() -> bool:
            told = [(worker, worker.readiness() or {}) for worker in workers]
            for worker in workers:
                worker.check_alive()
            served: dict[str, int] = {}
            for worker, readiness in told:
                served[worker.role] = served.get(worker.role, 0) + len(readiness.get("buckets", {}))
            all_buckets = all(count >= self.settings.buckets for count in served.values())
            return all_buckets and all(readiness.get("ready") for _, readiness in told)

        await until(serving, READY_TIMEOUT_S)

    def down(self) -> None:
        """End every worker, whatever state it is in."""
        for worker in self._workers.values():
            if (pid := worker.pid) is not None:
                os.kill(pid, signal.SIGCONT)
                worker.stop()

    async def load(
        self,
        orders: int,
        rate: float,
        urls: Sequence[str],
        meanwhile: Callable[[], Awaitable[None]],
        *,
        think_s: float = 0.25,
    ) -> Driven:
        """Drive orders; `meanwhile` happens once a quarter of the commands are sent."""
        due = schedule(list(population(run_name(), orders, seed=7)), rate, think_s=think_s)
        quarter = asyncio.Event()

        def progress(now: Progress) -> None:
            if now.sent > now.total / 4:
                quarter.set()

        driving = asyncio.create_task(drive(due, self.settings, urls, "kafka", progress))
        reached = asyncio.create_task(quarter.wait())
        await asyncio.wait({driving, reached}, return_when=asyncio.FIRST_COMPLETED)
        await meanwhile()
        reached.cancel()
        return await driving

    async def recount(self, urls: Sequence[str]) -> Recount:
        """Recount the event log and compare it with the view."""
        events = Topics(self.settings.topic_prefix).events("orders")
        return await recount(self.settings.brokers, events, self.settings.partitions, urls)


async def until(condition: Callable[[], bool], timeout_s: float) -> None:
    """Wait, without holding up the loop, until the condition is true."""
    async with asyncio.timeout(timeout_s):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - what is waited for is another process
            await asyncio.sleep(0.05)


async def kill(worker: LocalWorker) -> None:
    """kill -9, and wait until it is gone."""
    pid = worker.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(worker.stop)


def lose_disk(worker: LocalWorker) -> None:
    """Its tables are gone."""
    assert (worker.data_dir / "tables").is_dir()
    shutil.rmtree(worker.data_dir)
