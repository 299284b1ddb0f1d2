"""The whole fleet in one process: a scene is played, first with faults, then without, and looked at in the end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any

from app.catalogue import CATALOGUE, Catalogue
from app.domain.order import ORDER
from app.kernel import Aggregate
from app.kernel.errors import FleetError
from app.projections.orders import ORDERS
from app.runtime.agent import Agent
from app.runtime.ports import TopicPartition
from app.runtime.simulated import SimulatedCluster
from app.runtime.simulated.clock import EPOCH_MS
from app.runtime.simulated.log import PartitionLog
from app.runtime.topics import Topics, partition_of
from simulation.draining import drained, refused
from simulation.faults import Fault, Kind
from simulation.group import Group
from simulation.injecting import Injection
from simulation.loop import Endless, NothingLeft, SimulatedLoop
from simulation.process import Process, task_of_process
from simulation.purse import PURSE
from simulation.scene import Scene
from simulation.watch import Violation, Watch
from simulation.witnesses import HEARING, witness_topics, witnesses
from simulation.worker import Worker, settings_of
from simulation.workload import Sent
from tables.memory import MemoryStores

TOPICS = Topics()
ORDERS_ALONE = Catalogue(aggregates=(ORDER, PURSE), projections=(ORDERS,))
TRANSACTION_TIMEOUT_S = 4.0
LATER_S = 3_600.0
"""How far time is moved on in the end: every timer is due by then."""


@dataclass
class Played:
    """How a scene went. `trace` is a checksum of every step: the same scene has the same."""

    scene: Scene
    violations: Sequence[Violation]
    trace: int
    crashes: int
    faults: Mapping[str, int]
    steps: int
    story: Sequence[str] = ()


class Fleet:
    """Brokers, groups, workers, clients."""

    def __init__(self, scene: Scene, *, tell: bool = False) -> None:
        self.scene = scene
        self.seed = scene.seed
        self.loop = SimulatedLoop()
        self.loop.set_task_factory(task_of_process)
        self.topics = TOPICS
        self.cluster = SimulatedCluster(
            self, chunk_records_max=scene.chunk_records_max, batch_bytes_max=scene.batch_bytes_max
        )
        self.cluster.on_change = self._grown
        self.cluster.mark_later = self._mark_later
        self.watch = Watch(self.cluster, self.topics)
        self.faults: Counter[str] = Counter()
        self.steps = 0
        self.trace = 0
        self.story: list[str] | None = [] if tell else None
        self.extra_ms = 0
        self._injection = Injection(self)
        self.settled = self.over = False
        self._random = Random(f"{scene.seed}/brokers")
        self.workers: list[Worker] = []
        self.groups: list[Group] = []
        self.agents: list[Agent] = []
        self.old_stores: list[tuple[Worker, MemoryStores]] = []
        self.aggregates: tuple[Aggregate[Any, Any, Any], ...] = ()
        self._prepare()

    def _prepare(self) -> None:
        scene = self.scene
        catalogue = CATALOGUE if scene.shop else ORDERS_ALONE
        self.aggregates = catalogue.aggregates
        for role, count in scene.roles:
            settings = settings_of(scene, role)
            agents = list(catalogue.agents(settings))
            if role != "chains":
                agents += self._witnesses(agents, first=role == scene.roles[0][0])
            group = Group(self, scene.buckets, settings.session_timeout)
            self.groups.append(group)
            self.agents += agents
            for number in range(count):
                worker = Worker(f"{role}-{number}", settings_of(scene, role, f"{role}-{number}"), agents, group)
                self.workers.append(worker)
                if scene.late_witness:
                    worker.agents = [agent for agent in agents if agent.name != HEARING]
                    self.loop.call_at(scene.end_s * 0.6 + 0.1 * number, self._add_agents, worker, agents)
        self.cluster.create_topics([*catalogue.topics(settings), *witness_topics(self.topics)], scene.partitions)
        self.watch.logged = {agent.name: agent.sources for agent in self.agents if agent.logged}
        self.watch.unlogged = {agent.name: agent.sources[0] for agent in self.agents if not agent.logged}

    def _witnesses(self, agents: Sequence[Agent], *, first: bool) -> list[Agent]:
        if not first:
            return []
        events = {topic: agent.decode_of(topic) for agent in agents for topic in agent.sources if "events" in topic}
        return witnesses(self.topics, events)

    @property
    def categories(self) -> tuple[str, ...]:
        """Of all aggregates that there are."""
        return tuple(aggregate.category for aggregate in self.aggregates)

    # Time, and what happened

    def monotonic(self) -> float:
        """Seconds since the simulation began."""
        return self.loop.time()

    def epoch_ms(self) -> int:
        """The brokers' time."""
        return EPOCH_MS + self.extra_ms + round(self.loop.time() * 1000)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    def instant(self, epoch_ms: int) -> datetime:
        """A machine's time as a date."""
        return datetime.fromtimestamp(epoch_ms / 1000, UTC)

    def note(self, who: str, what: str, detail: str = "") -> None:
        """One step."""
        if self.over:
            return
        self.steps += 1
        line = f"{self.loop.time():.6f} {who} {what} {detail}"
        self.trace = zlib.crc32(line.encode(), self.trace)
        if self.story is not None:
            self.story.append(line)

    # The brokers

    def _mark_later(self, mark: Any) -> None:
        if self.scene.mark_delay_s and not self.settled:
            self.loop.call_later(self.scene.mark_delay_s * self._random.random(), mark)
        else:
            mark()

    def _grown(self, log: PartitionLog) -> None:
        partition = TopicPartition(log.topic, log.partition)
        for worker in self.workers:
            if worker.process is not None:
                worker.process.consumer.grown(partition)

    async def _end_late_transactions(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            for name in self.cluster.time_out_transactions(TRANSACTION_TIMEOUT_S):
                self.note(name, "transaction timed out")

    # The play

    def play(self) -> Played:
        """Play the scene."""
        self.loop.set_exception_handler(self._lost_error)
        with quiet():
            try:
                self.loop.run(self._play_to_the_end())
            except (NothingLeft, Endless) as error:
                self.watch.report("the fleet comes to rest", str(error))
        return Played(
            self.scene,
            tuple(self.watch.broken),
            self.trace,
            self.faults[Kind.KILL] + self.faults[Kind.NIGHT],
            dict(self.faults),
            self.steps,
            self.story or (),
        )

    async def _play_to_the_end(self) -> None:
        try:
            await self._play()
        finally:
            self.over = True
            for worker in self.workers:
                if worker.process is not None:
                    worker.process.die()

    async def _play(self) -> None:
        from simulation.checks import check_directory, check_everything

        scene = self.scene
        for group in self.groups:
            self.loop.create_task(group.run())
        self.loop.create_task(self._end_late_transactions())
        for sent in scene.sent:
            self.loop.call_at(sent.at_s, self._send, sent)
        for fault in scene.faults:
            self.loop.call_at(fault.at_s, self._injection.inject, fault)
        for worker in self.workers:
            self.loop.call_later(0.1 * self._random.random(), self.start, worker)
        await asyncio.sleep(scene.end_s)
        self._heal()
        if (topic := self._injection.recreated) is not None:
            await refused(self, topic, self._injection.must_refuse)
            return
        done = await drained(self, "after the faults have stopped")
        if done:
            check_directory(self)
        # Once for timers; windows ask one partition after the other, and each must have seen for how long it was quiet.
        for _ in range(4 if scene.shop else 1):
            self.extra_ms += round(LATER_S * 1000)
            self.note("time", "moves on")
            await asyncio.sleep(2.5)
        if done and await drained(self, "after every timer was due") and await self._begin_afresh():
            check_everything(self)

    def _send(self, sent: Sent) -> None:
        number = partition_of(sent.key, self.scene.partitions)
        if sent.astray:
            number = (number + 1) % self.scene.partitions
        self.note("client", "sends", sent.about)
        self.cluster.append(TopicPartition(sent.topic, number), (sent.key, sent.value))

    def start(self, worker: Worker) -> None:
        """Start a worker that is down."""
        if worker.process is None and worker in self.workers:
            worker.lives += 1
            worker.process = Process(self, worker, worker.lives)
            self.note(worker.process.name, "starts")
            worker.process.start()

    def _add_agents(self, worker: Worker, agents: Sequence[Agent]) -> None:
        """A new release has an agent more."""
        worker.agents = agents
        if worker.process is not None:
            self.loop.create_task(self.restart(worker, worker.process))

    def kill(self, process: Process, fault: Fault) -> None:
        """Kill a process; its worker is started again after a while."""
        worker, random = process.worker, Random(f"{self.seed}/{process.name}/death")
        self.faults[Kind.KILL] += 1
        self.note(process.name, "dies", "with its disk" if fault.share < 0.25 else "")
        process.die()
        worker.process = None
        worker.stores.crash(lambda unflushed: random.randint(0, unflushed))
        if fault.share < 0.25:
            worker.stores.lose()
        self.loop.call_later(fault.seconds, self.start, worker)

    async def restart(self, worker: Worker, process: Process) -> None:
        """Stop a process in good order, and start the next one."""
        with contextlib.suppress(asyncio.CancelledError):
            await process.spawn(process.stop())
        if process.alive:
            self.note(process.name, "stopped")
            process.die()
            worker.stores.crash()
            worker.process = None
            self.start(worker)

    def _lost_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, Exception) and not self.over:
            self.watch.report("no error is lost", f"{context.get('message')}: {error!r}")

    # When the faults have stopped

    def _heal(self) -> None:
        self.note("faults", "stop")
        self.settled = True
        for worker in self.workers:
            worker.armed.clear()
            worker.find_the_leaders()
            if worker.process is None:
                self.start(worker)
            else:
                worker.process.heal()

    async def _begin_afresh(self) -> bool:
        """Stop everything, and start one worker of each role with an empty disk."""
        for worker in self.workers:
            if worker.process is not None:
                await worker.process.spawn(worker.process.stop())
                worker.process.die()
                worker.process = None
        self.note("workers", "all stopped")
        firsts = [next(w for w in self.workers if w.group is group) for group in self.groups]
        everybody, self.workers = self.workers, firsts
        self.old_stores = [(worker, worker.stores) for worker in everybody]
        for worker in firsts:
            worker.stores = MemoryStores()
            worker.skew_ms = 0
            self.start(worker)
        return await drained(self, "after a fresh start with empty disks")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without logs, and without a garbage collector that comes when it likes: finalizers have effects."""
    collecting, level = gc.isenabled(), logging.root.manager.disable
    gc.disable()
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(level)
        if collecting:
            gc.enable()


def play(scene: Scene, *, tell: bool = False) -> Played:
    """Play a scene once."""
    try:
        return Fleet(scene, tell=tell).play()
    except FleetError as error:
        raise AssertionError(f"seed {scene.seed}: the simulation itself failed") from error
