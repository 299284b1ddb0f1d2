"""The stage: three brokers behind a fault proxy, and several workers of each role. Faults happen to it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from app.catalogue import CATALOGUE, SPLIT
from app.kernel.errors import FleetError
from app.local.cluster import LocalCluster
from app.local.kafka import LocalKafka
from app.local.node import CONTROLLER, Listener, Node
from app.local.ports import free_ports
from app.local.workers import LocalWorker
from app.runtime.kafka.admin import ensure_topics
from app.runtime.settings import Settings
from chaos.disks import SmallDisk, unmount
from chaos.orders import ORDERS_FILE, Orders
from chaos.proxy import Route
from chaos.proxying import ProxyProcess
from chaos.redis import StageRedis

BROKERS = 3
PORTS_PER_BROKER = 7
WORKERS_PER_ROLE, WORKERS_UNDER_FIRE = 2, 3
BUCKETS = WORKERS_UNDER_FIRE
PARTITIONS = 4
SESSION_S = 6.0
READY_TIMEOUT_S = 90.0
BROKER_START_TIMEOUT_S = 150.0
"""A broker that was killed must be given up by the controller before it may come back; and the machine is busy."""
DIRECT, WORKERS, PEERS = "DIRECT", "WORKERS", "PEERS"
SUPERVISE_EVERY_S = 0.25

WORKER_SETTINGS = {
    "FLEET_PARTITIONS": str(PARTITIONS),
    "FLEET_BUCKETS": str(BUCKETS),
    "FLEET_REPLICATION": str(BROKERS),
    "FLEET_SESSION_TIMEOUT": str(SESSION_S),
    "FLEET_ROUNDS_PER_S_MAX": "15",
    "FLEET_OUTCOME_WAIT_MS": "2000",
    # Small memtables: what only happens when one is flushed must happen within minutes.
    "FLEET_ROCKSDB_WRITE_BUFFER_BYTES": str(1 << 20),
}


class StageBroken(FleetError):
    """The stage could not be set up, or a fault could not be made. The text says why."""


def route(kind: str, node: int) -> str:
    """The name of the proxy's route to one kind of listener of a node."""
    return f"{kind.lower()}-{node}"


def nodes_behind_proxies(first_port: int) -> tuple[list[Node], list[Route]]:
    """Nodes whose workers, peers and controllers all come through the proxy; whoever measures comes directly."""
    kinds = (DIRECT, WORKERS, PEERS, CONTROLLER)
    at = {number: first_port + PORTS_PER_BROKER * (number - 1) for number in range(1, BROKERS + 1)}
    voters = tuple((number, port + 6) for number, port in at.items())
    nodes, routes = [], []
    for number, port in at.items():
        told = {DIRECT: 0, WORKERS: port + 4, PEERS: port + 5, CONTROLLER: port + 6}
        listeners = tuple(Listener(kind, port + place, told[kind]) for place, kind in enumerate(kinds))
        nodes.append(Node(number, listeners, voters, peers=PEERS))
        routes += [Route(route(one.name, number), one.told, one.port) for one in listeners if one.told]
    return nodes, routes


@contextlib.contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """Let nobody else set a stage up in the directory meanwhile: it would clear away what is in use."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with directory.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StageBroken(f"another run is under way in {directory}: wait for its end, or end it") from error
        yield


class Stage:
    """Everything that runs. `lots` draws which role is under fire.

    A worker that dies though no fault says so is started again, as any cluster would, and told in `violations`.
    """

    def __init__(self, directory: Path, lib: Path, lots: random.Random, roles: Sequence[str] = SPLIT) -> None:
        self.directory = directory
        web_port = BROKERS * PORTS_PER_BROKER + 1
        first = free_ports(web_port + len(roles) * WORKERS_UNDER_FIRE)
        nodes, routes = nodes_behind_proxies(first)
        self.cluster = LocalCluster(directory / "kafka", nodes, lib=lib)
        self.proxy = ProxyProcess(routes)
        self.redis = StageRedis(directory / "redis", first + web_port - 1)
        self.role_under_fire = lots.choice(sorted(roles))
        self.workers: dict[str, LocalWorker] = {}
        self.disks: dict[str, SmallDisk] = {}
        self.violations: list[str] = []
        self.down: set[str] = set()
        """Workers that a fault has taken down, and will bring back."""
        self.settings = Settings(
            brokers=self.cluster.brokers, partitions=PARTITIONS, buckets=BUCKETS, replication=BROKERS
        )
        self._behind_proxy = ",".join(f"127.0.0.1:{one.port}" for one in routes if one.name.startswith("workers-"))
        for role in roles:
            for number in range(WORKERS_UNDER_FIRE if role == self.role_under_fire else WORKERS_PER_ROLE):
                name = f"{role}-{number + 1}"
                self.workers[name] = self._worker(name, role, first + web_port + len(self.workers))
        self._supervising: asyncio.Task[None] | None = None

    def _worker(self, name: str, role: str, port: int) -> LocalWorker:
        settings = WORKER_SETTINGS | {ORDERS_FILE: str(self._orders_file(name))}
        if self.redis.here:
            settings |= {"FLEET_BUS": "redis", "FLEET_REDIS_URL": self.redis.url}
        return LocalWorker(
            name, role, port, self.directory, self._behind_proxy, settings=settings, application="chaos.worker"
        )

    @property
    def urls(self) -> list[str]:
        """Where every worker's views are, running or not."""
        return [worker.url for worker in self.workers.values()]

    def under_fire(self) -> list[LocalWorker]:
        """The workers of the role that is hit most."""
        return self.of_role(self.role_under_fire)

    def of_role(self, role: str) -> list[LocalWorker]:
        """The workers of a role, or all where nobody has that role by itself."""
        found = [worker for worker in self.workers.values() if worker.role == role]
        return found or list(self.workers.values())

    # Setting up and clearing away

    async def up(self, say: Callable[[str], None]) -> None:
        """Start everything, and wait until all of it serves."""
        for worker in self.workers.values():
            unmount(worker.data_dir)  # of a run that was killed
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        say(f"Starting {BROKERS} brokers behind a fault proxy …")
        await self.proxy.start()
        if self.redis.here:
            self.redis.start()
        self.cluster.start(with_parent=True)  # in this thread: its children die with the thread that started them
        s = self.settings
        await ensure_topics(s.brokers, CATALOGUE.topics(s), s.partitions, s.replication)
        say(f"Starting {len(self.workers)} workers: {', '.join(self.workers)} …")
        self.disks = {name: SmallDisk(worker.data_dir) for name, worker in self.workers.items()}
        for worker in self.workers.values():
            worker.start(with_parent=True)
        await self.until_ready()
        self._supervising = asyncio.create_task(self._supervise())

    async def close(self) -> None:
        """End everything that was started, whatever state it is in."""
        if self._supervising is not None:
            self._supervising.cancel()
            await asyncio.gather(self._supervising, return_exceptions=True)
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        await asyncio.to_thread(self._stop)
        await self.proxy.close()
        for worker in self.workers.values():
            unmount(worker.data_dir)

    def _stop(self) -> None:
        with ThreadPoolExecutor(max_workers=len(self.workers)) as at_once:
            list(at_once.map(LocalWorker.stop, self.workers.values()))
        self.cluster.stop()
        self.redis.stop()

    def pids(self) -> list[int]:
        """Every process of the stage that runs, the proxy left out."""
        workers = [worker.pid for worker in self.workers.values()]
        brokers = [node.pid for node in self.cluster.nodes.values()]
        return [pid for pid in (*workers, *brokers, self.redis.pid) if pid is not None]

    async def until_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Wait until every worker is ready and every bucket of every role is served."""
        try:
            async with asyncio.timeout(timeout_s):
                while await self.late():  # noqa: ASYNC110 - what is waited for are processes
                    await asyncio.sleep(SUPERVISE_EVERY_S)
        except TimeoutError as error:
            late = await self.late()
            raise StageBroken(f"not ready after {timeout_s:.0f} s: {late} (see {self.directory / 'logs'})") from error

    async def late(self) -> str | None:
        """What is not ready, and why; `None` where everything serves."""
        return await asyncio.to_thread(self._late)

    def _late(self) -> str | None:
        served: dict[str, int] = {}
        for name, worker in self.workers.items():
            told = worker.readiness()
            if not (told or {}).get("ready"):
                return f"{name}: {json.dumps(told) if told else 'it does not answer'}"
            served[worker.role] = served.get(worker.role, 0) + len((told or {}).get("buckets", {}))
        missing = [role for role, buckets in served.items() if buckets != BUCKETS]
        return f"not every bucket of {', '.join(missing)} is served" if missing else None

    async def _supervise(self) -> None:
        while True:
            for name, worker in self.workers.items():
                if name not in self.down and worker.pid is None:
                    self.violations.append(f"{name} has died by itself: see {worker.log_file}")
                    await self.start_worker(worker)
            await asyncio.sleep(SUPERVISE_EVERY_S)

    # What faults do

    async def start_worker(self, worker: LocalWorker) -> None:
        """Start it, with no orders but to work. In this thread: it dies with the thread that started it."""
        self.order(worker, Orders())
        self.start_with_orders(worker)

    def start_with_orders(self, worker: LocalWorker) -> None:
        """Start it as it was ordered."""
        worker.start(with_parent=True)
        self.down.discard(worker.name)

    async def stop_worker(self, worker: LocalWorker) -> None:
        """SIGTERM. That it ends by itself is one of the promises."""
        self.down.add(worker.name)
        if not await asyncio.to_thread(worker.stop):
            self.violations.append(f"{worker.name} did not end by itself when told to: see {worker.log_file}")

    async def kill_worker(self, worker: LocalWorker) -> None:
        """kill -9, and wait until it is gone."""
        self.down.add(worker.name)
        if (pid := worker.pid) is not None:
            os.kill(pid, signal.SIGKILL)
            await asyncio.to_thread(worker.stop)

    def order(self, worker: LocalWorker, orders: Orders) -> None:
        """Tell a running worker, or one that will start, what to do to itself."""
        orders.write(self._orders_file(worker.name))

    def _orders_file(self, name: str) -> Path:
        return self.directory / "orders" / f"{name}.json"

    async def kill_broker(self, node: LocalKafka) -> None:
        """kill -9, and wait until it is gone."""
        if (pid := node.pid) is not None:
            os.kill(pid, signal.SIGKILL)
            await asyncio.to_thread(node.stop)

    async def start_broker(self, node: LocalKafka) -> None:
        """Start it, and wait until it answers."""
        node.launch(with_parent=True)
        await asyncio.to_thread(node.wait, BROKER_START_TIMEOUT_S)

    def controller(self) -> int:
        """The node that is the active controller, as the nodes' own notes have it."""
        best, leader = -1, 1
        for node in self.cluster.nodes.values():
            with contextlib.suppress(OSError, ValueError, KeyError):
                notes = json.loads((node.directory / "data/__cluster_metadata-0/quorum-state").read_text())
                if notes["leaderEpoch"] > best and notes["leaderId"] in self.cluster.nodes:
                    best, leader = notes["leaderEpoch"], notes["leaderId"]
        return leader
