"""The whole fleet in one process: a scene is played, first with faults, then without, and looked at in the end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from app.catalogue import CATALOGUE, Catalogue
from app.domain.order import ORDER
from app.kernel.errors import FleetError
from app.projections.orders import ORDERS
from app.runtime.agent import Agent
from app.runtime.lifecycle import State
from app.runtime.ports import TopicPartition
from app.runtime.settings import Settings
from app.runtime.simulated import SimulatedCluster
from app.runtime.simulated.clock import EPOCH_MS
from app.runtime.simulated.log import PartitionLog
from app.runtime.topics import CHANGELOG_DELETE_RETENTION_S, Topics, partition_of
from simulation.faults import Fault, Kind
from simulation.group import Group
from simulation.loop import Endless, NothingLeft, SimulatedLoop
from simulation.process import Process, task_of_process
from simulation.scene import Scene
from simulation.watch import Violation, Watch
from simulation.witnesses import HEARING, TALLY_IN, witness_topics, witnesses
from simulation.workload import Sent
from tables.memory import MemoryStores

TOPICS = Topics()
ORDERS_ALONE = Catalogue(aggregates=(ORDER,), projections=(ORDERS,))
DRAIN_S_MAX = 120.0
LOOK_EVERY_S = 0.25
TRANSACTION_TIMEOUT_S = 4.0
LATER_S = 3_600.0
"""How far time is moved on in the end: every timer is due by then."""


@dataclass
class Armed:
    """A fault that waits for a side effect."""

    fault: Fault
    left: int

    def meets(self, effect: str) -> bool:
        """Whether this effect is the one."""
        if self.fault.effect not in ("", effect):
            return False
        self.left -= 1
        return self.left < 0


@dataclass(eq=False)
class Worker:
    """What outlasts a process: a name, a disk, a machine's clock."""

    name: str
    settings: Settings
    agents: Sequence[Agent]
    group: Group
    stores: MemoryStores = field(default_factory=MemoryStores)
    armed: list[Armed] = field(default_factory=list)
    skew_ms: int = 0
    lives: int = 0
    process: Process | None = None
    deposed: dict[tuple[str, int], int] = field(default_factory=dict)
    """By topic and partition, the old ends that the leaders tell which this machine still asks."""

    def find_the_leaders(self) -> None:
        """Ask those that there are now."""
        self.deposed.clear()
        if self.process is not None:
            self.process.consumer.look_again()


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
        self.cluster = SimulatedCluster(self, chunk_records_max=scene.chunk_records_max)
        self.cluster.on_change = self._grown
        self.cluster.mark_later = self._mark_later
        self.watch = Watch(self.cluster, self.topics)
        self.faults: Counter[str] = Counter()
        self.steps = 0
        self.trace = 0
        self.story: list[str] | None = [] if tell else None
        self.extra_ms = 0
        self.recreated: str | None = None
        self.must_refuse: set[tuple[str, int]] = set()
        self.settled = self.over = False
        self._random = Random(f"{scene.seed}/brokers")
        self.workers: list[Worker] = []
        self._groups: list[Group] = []
        self.agents: list[Agent] = []
        self.old_stores: list[tuple[Worker, MemoryStores]] = []
        self.categories: tuple[str, ...] = ()
        self._prepare()

    def _prepare(self) -> None:
        scene = self.scene
        catalogue = CATALOGUE if scene.shop else ORDERS_ALONE
        self.categories = tuple(aggregate.category for aggregate in catalogue.aggregates)
        for role, count in scene.roles:
            settings = settings_of(scene, role)
            agents = list(catalogue.agents(settings))
            if role != "chains":
                agents += self._witnesses(agents, first=role == scene.roles[0][0])
            group = Group(self, scene.buckets, settings.session_timeout)
            self._groups.append(group)
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
        from simulation.checks import check_everything

        scene = self.scene
        for group in self._groups:
            self.loop.create_task(group.run())
        self.loop.create_task(self._end_late_transactions())
        for sent in scene.sent:
            self.loop.call_at(sent.at_s, self._send, sent)
        for fault in scene.faults:
            self.loop.call_at(fault.at_s, self._inject, fault)
        for worker in self.workers:
            self.loop.call_later(0.1 * self._random.random(), self.start, worker)
        await asyncio.sleep(scene.end_s)
        self._heal()
        if self.recreated is not None:
            await self._until_refused(self.recreated)
            return
        drained = await self._drain("after the faults have stopped")
        self.extra_ms += round(LATER_S * 1000)
        self.note("time", "moves on")
        await asyncio.sleep(2.5)
        if drained and await self._drain("after every timer was due") and await self._begin_afresh():
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
            self.loop.create_task(self._restart(worker, worker.process))

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

    def _inject(self, fault: Fault) -> None:
        if fault.kind is not Kind.KILL:
            self.faults[fault.kind] += 1
        worker = self.workers[fault.worker % len(self.workers)]
        self.note(worker.name, "fault", str(fault))
        if fault.effect and fault.kind in (Kind.KILL, Kind.PAUSE):
            worker.armed.append(Armed(fault, fault.skip))
            return
        process = worker.process
        match fault.kind:
            case Kind.COMPACT:
                self._compact()
            case Kind.TIME_OUT:
                self.cluster.time_out_transactions(0.0)
            case Kind.CLOCK:
                worker.skew_ms = round((fault.share - 0.5) * 600_000)
            case Kind.NIGHT:
                self._night(worker)
            case Kind.MIRROR:
                self._mirror(fault)
            case Kind.RECREATE:
                self._recreate(fault)
            case _ if process is not None:
                self._befall(process, fault)

    def _befall(self, process: Process, fault: Fault) -> None:
        until_s = self.loop.time() + fault.seconds
        match fault.kind:
            case Kind.KILL | Kind.PAUSE:
                process.strike(fault)
            case Kind.FAIL:
                process.faults.setdefault(fault.effect, []).append((fault.skip, False))
            case Kind.LOSE_ANSWER:
                process.faults.setdefault(fault.effect, []).append((fault.skip, True))
            case Kind.CUT:
                process.cut_off(fault.seconds)
            case Kind.SLOW:
                process.slow[fault.effect] = fault.seconds, until_s + 5.0
            case Kind.RESTART:
                self.loop.create_task(self._restart(process.worker, process))
            case Kind.JUMP:
                process.consumer.jump(fault.share, fault.seconds)
            case Kind.REPEAT:
                process.consumer.repeat()
            case Kind.DROP:
                process.consumer.forget()
                process.worker.group.shake()
            case Kind.DEPOSE:
                process.ask_deposed_leaders(fault.seconds)
            case Kind.DISK:
                process.disk_full_until_s = until_s

    async def _restart(self, worker: Worker, process: Process) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await process.spawn(process.stop())
        if process.alive:
            self.note(process.name, "stopped")
            process.die()
            worker.stores.crash()
            worker.process = None
            self.start(worker)

    def _compact(self) -> None:
        before_ms = self.epoch_ms() - round(CHANGELOG_DELETE_RETENTION_S * 1000)
        for agent in self.watch.logged:
            for log in self.cluster.logs_of(self.topics.changelog(agent)):
                log.compact(before_ms=before_ms)

    def _night(self, worker: Worker) -> None:
        """The worker is down while a day goes by for everybody else."""
        process = worker.process
        if process is None:
            return
        # Long enough for others to take its buckets over and to delete rows there.
        self.kill(process, Fault(Kind.KILL, 0.0, seconds=6.0, share=1.0))
        self.loop.call_later(4.0, self._send_all_keys)
        self.loop.call_later(5.0, self._dawn)

    def _send_all_keys(self) -> None:
        """One record more for each key of the witness: rows go, by tombstones that the worker sleeps over."""
        for key in (b"a", b"b", b"c", b"d"):
            number = partition_of(key, self.scene.partitions)
            self.cluster.append(TopicPartition(TALLY_IN, number), (key, b"night"))

    def _dawn(self) -> None:
        if self.settled:
            return
        processes = [worker.process for worker in self.workers if worker.process is not None]
        if not all(process.all_restored for process in processes):
            self.loop.call_later(0.2, self._dawn)  # no restore takes a day: tombstones would go under its eyes
            return
        self.extra_ms += round((CHANGELOG_DELETE_RETENTION_S + 600) * 1000)
        self.note("time", "a day goes by")
        self._compact()

    def _mirror(self, fault: Fault) -> None:
        """Write an event once more, outside of any transaction."""
        topics = [self.topics.events(category) for category in self.categories]
        there = [record for topic in topics for log in self.cluster.logs_of(topic) for record, _ in log.decided()]
        if there:
            record = there[int(fault.share * len(there))]
            partition = TopicPartition(record.topic, record.partition)
            self.cluster.append(partition, (record.key, record.value, record.headers))

    def _recreate(self, fault: Fault) -> None:
        logged = [agent for agent in self.agents if agent.logged]
        agent = logged[int(fault.share * 1e6) % len(logged)]
        topic = self.topics.changelog(agent.name) if int(fault.share * 1e3) % 2 else agent.sources[0]
        self.note("topic", "made again", topic)
        if topic != agent.sources[0] and int(fault.share * 1e4) % 2:  # the disks are gone with it: only the group knows
            for process in [worker.process for worker in self.workers if worker.process is not None]:
                self.kill(process, Fault(Kind.KILL, fault.at_s, seconds=0.5, share=0.0))
        self.recreated, self.must_refuse = topic, self._losers_by(topic)
        old = [(log.partition, log.decided()) for log in self.cluster.logs_of(topic)]
        self.cluster.delete_topic(topic)
        self.cluster.create_topics([topic], self.scene.partitions)
        if topic == agent.sources[0] and int(fault.share * 1e5) % 2:  # and filled anew: its end tells nothing
            for number, records in old:
                for record, _ in records * 3:
                    self.cluster.append(TopicPartition(topic, number), (record.key, record.value))

    def _losers_by(self, topic: str) -> set[tuple[str, int]]:
        """The workers and buckets that cannot go on without the records of a topic: they have counted on them."""
        found: set[tuple[str, int]] = set()
        for worker in self.workers:
            disk = {key: store.progress is not None for key, store in worker.stores.items()}
            for agent in worker.agents:
                for number in range(self.scene.partitions) if agent.logged else ():
                    on_disk = topic == self.topics.changelog(agent.name) and disk.get((agent.name, number), False)
                    alone = [a for a in worker.agents if a.logged and set(a.sources) & set(agent.sources)] == [agent]
                    told = any(worker.group.offsets.get(TopicPartition(s, number)) for s in agent.sources)
                    if topic == self.topics.changelog(agent.name) and alone and told:
                        found.add((worker.name, number % self.scene.buckets))  # whatever is on its disk
                    if on_disk or self.watch.positions(agent.name, number).get(topic):
                        found.add((worker.name, number % self.scene.buckets))
        return found

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

    async def _drain(self, when: str) -> bool:
        """Wait until nothing is left to do; whether it came so far."""
        quiet, why = 0, ""
        for _ in range(int(DRAIN_S_MAX / LOOK_EVERY_S)):
            await asyncio.sleep(LOOK_EVERY_S)
            why = self._unfinished()
            quiet = 0 if why else quiet + 1
            if quiet == 2:
                return True
        self.watch.report("everything drains", f"{when}: {why}")
        return False

    def _unfinished(self) -> str:
        if self.cluster.open_transactions:
            return "transactions are open"
        for group in self._groups:
            owners: dict[int, str] = {}
            for worker in self.workers:
                if worker.group is group:
                    why = self._work_left(worker, owners)
                    if why:
                        return why
            if len(owners) != self.scene.buckets:
                return f"buckets without an owner: only {sorted(owners)} are served"
        return ""

    def _work_left(self, worker: Worker, owners: dict[int, str]) -> str:
        process = worker.process
        if process is None:
            return f"{worker.name} is down"
        for bucket, pipeline in process.holdings.pipelines.items():
            if pipeline.state is State.REFUSED:
                return f"{worker.name} refuses: {pipeline.refusal}"
            if not pipeline.ready:
                return f"{worker.name}: {pipeline!r}, last error {pipeline.stats.last_error}"
            if bucket in owners:
                return f"bucket {bucket} has two owners: {owners[bucket]} and {worker.name}"
            owners[bucket] = worker.name
            for source, position in pipeline.source_positions().items():
                last = self.cluster.log(source).last_settled
                if position <= last:
                    return f"{worker.name} stands at {position} of {source}, whose last record is at {last}"
        return "" if process.consumer.quiet else f"{worker.name} has batches to hand over"

    async def _begin_afresh(self) -> bool:
        """Stop everything, and start one worker of each role with an empty disk."""
        for worker in self.workers:
            if worker.process is not None:
                await worker.process.spawn(worker.process.stop())
                worker.process.die()
                worker.process = None
        self.note("workers", "all stopped")
        firsts = [next(w for w in self.workers if w.group is group) for group in self._groups]
        everybody, self.workers = self.workers, firsts
        self.old_stores = [(worker, worker.stores) for worker in everybody]
        for worker in firsts:
            worker.stores = MemoryStores()
            worker.skew_ms = 0
            self.start(worker)
        return await self._drain("after a fresh start with empty disks")

    async def _until_refused(self, topic: str) -> None:
        """Whoever uses the topic that was made again must refuse, and say so."""
        why = ""
        for _ in range(int(DRAIN_S_MAX / LOOK_EVERY_S)):
            await asyncio.sleep(LOOK_EVERY_S)
            why = self._not_refused(topic)
            if not why:
                return
        self.watch.report("a topic that was made again is refused", f"{topic}: {why}")

    def _not_refused(self, topic: str) -> str:
        for worker in self.workers:
            if worker.process is not None:
                for bucket, pipeline in worker.process.holdings.pipelines.items():
                    concerned = (worker.name, bucket) in self.must_refuse
                    if concerned and pipeline.state is not State.REFUSED:
                        return f"{pipeline!r} of {worker.name} goes on"
        return ""


def settings_of(scene: Scene, role: str, worker: str = "w") -> Settings:
    """The settings of a worker: time-outs short, so that much happens in little time."""
    return Settings(
        role=role,
        worker=worker,
        partitions=scene.partitions,
        buckets=scene.buckets,
        data_dir=Path(),
        session_timeout=3.0,
        heartbeat_interval=1.0,
        request_timeout=3.0,
        open_timeout=15.0,
        round_timeout=3.0,
        close_timeout=2.0,
        backoff_max=1.0,
        group_offsets_interval=1.0,
        catch_up_records=(10_000, 3)[scene.late_witness],
    )


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
