"""One life of a worker: what an operating system's process is to a fleet. It can die, stand still, and lose its way."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Collection, Coroutine, Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from aiokafka.errors import KafkaConnectionError, KafkaError, RequestTimedOutError

from app.runtime.buckets import partitions_of
from app.runtime.directory import Directory
from app.runtime.holdings import Holdings
from app.runtime.ports import TopicPartition
from app.runtime.shard import Shard
from app.runtime.simulated import SimulatedClient
from app.runtime.simulated.log import PartitionLog
from app.runtime.world import Rows, World
from simulation.consumer import Consumer
from simulation.disk import Disk
from simulation.faults import Died, Fault, Kind

if TYPE_CHECKING:
    from simulation.fleet import Fleet
    from simulation.worker import Worker

T = TypeVar("T")

CURRENT: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)
DEADLINED = frozenset({"start", "produce", "commit", "abort", "bounds", "read", "topic_ids"})
"""Requests that the engine's clients wait for with a deadline of their own."""
TICK_EVERY_S = 1.0


def task_of_process(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
    """asyncio's task factory: a task belongs to the process that made it, and dies with it."""
    task = asyncio.Task(work, loop=loop, **options)
    context = options.get("context")
    process = CURRENT.get() if context is None else context.get(CURRENT)
    if process is not None:
        process.adopt(task)
    return task


class Process:
    """Everything that a worker has in memory: its connection, its consumer, its pipelines, its tasks."""

    def __init__(self, fleet: Fleet, worker: Worker, life: int) -> None:
        self.fleet = fleet
        self.worker = worker
        self.name = f"{worker.name}.{life}"
        self.alive = True
        self.expelled = False
        self.generation = 0
        self.cut_until_s = self.disk_full_until_s = 0.0
        self.slow: dict[str, tuple[float, float]] = {}
        self.faults: dict[str, list[tuple[int, bool]]] = {}
        self.holdings = Holdings(worker.settings, lambda: worker.agents, self._world, spawn=self.spawn)
        self.consumer = Consumer(self)
        self._awake = asyncio.Event()
        self._awake.set()
        self._random = Random(f"{fleet.seed}/{self.name}")
        self._tasks: list[asyncio.Task[Any]] = []
        self._client = SimulatedClient(fleet.cluster, self)
        self._directory = Directory(worker.settings, fleet.topics)
        self._context = contextvars.copy_context()
        self._context.run(CURRENT.set, self)

    # Its life

    def start(self) -> None:
        """Begin: join the group, fetch, tell the time."""
        for work in (self.consumer.run(), self._tick(), self._report_positions()):
            self.spawn(work)
        self.worker.group.join(self)

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A task of this process."""
        return self.fleet.loop.create_task(work, context=self._context)

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """Note a task that was made in this process."""
        self._tasks.append(task)
        if len(self._tasks) > 500:
            self._tasks = [task for task in self._tasks if not task.done()]

    def die(self) -> None:
        """End at once, in the middle of everything."""
        self.alive = False
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()
        self.worker.group.silent(self)

    def pause(self, seconds: float) -> None:
        """Stand still for so long."""
        if self._awake.is_set():
            self._awake.clear()
            self.worker.group.silent(self)
            self.fleet.loop.call_later(seconds, self.wake)

    def wake(self) -> None:
        """Go on as if nothing had been; the next heartbeat tells whether the group has gone on alone."""
        if self.alive and not self._awake.is_set():
            self._awake.set()
            self._heartbeat_soon()

    def cut_off(self, seconds: float) -> None:
        """Let no request arrive for so long."""
        self.cut_until_s = max(self.cut_until_s, self.fleet.loop.time() + seconds)
        self.worker.group.silent(self)
        self.fleet.loop.call_later(seconds, self._heartbeat_soon)

    def heal(self) -> None:
        """Let nothing hinder it any more."""
        self.cut_until_s = self.disk_full_until_s = 0.0
        self.slow.clear()
        self.faults.clear()
        self.wake()
        self._heartbeat_soon()

    def ask_deposed_leaders(self, seconds: float) -> None:
        """Know nothing of what is written from now on, for so long."""
        worker, loop, random = self.worker, self.fleet.loop, self._random
        logs = [log for log in self.fleet.cluster.logs() if random.random() < 0.5]
        worker.deposed = {(log.topic, log.partition): log.settled_end for log in logs}
        loop.call_later(seconds, worker.find_the_leaders)

    async def stop(self) -> None:
        """End in good order: finish the rounds, close the stores, leave the group."""
        await self.awake()
        await self.holdings.close()
        self.worker.group.leave(self)

    @property
    def heard(self) -> bool:
        """Whether its heartbeats arrive."""
        return self.alive and self._awake.is_set() and self.fleet.loop.time() >= self.cut_until_s

    def _heartbeat_soon(self) -> None:
        self.fleet.loop.call_later(self._random.random(), self._heartbeat)

    def _heartbeat(self) -> None:
        if self.heard and self.expelled:
            self.expelled = False
            self.spawn(self._rejoin())

    async def _rejoin(self) -> None:
        await self.revoked()
        self.worker.group.join(self)

    # The effects that it has, and the faults that it meets

    def effect(self, name: str, *, here: bool = True) -> None:
        """A step was done, here or at the cluster. It may be the last one."""
        if not self.alive:
            raise Died
        self.fleet.note(self.name, name)
        for armed in self.worker.armed:
            if armed.meets(name):
                self.worker.armed.remove(armed)
                self.strike(armed.fault)
                break
        if here and not self.alive:
            raise Died

    def strike(self, fault: Fault) -> None:
        """A fault that ends or stops the process, now."""
        if fault.kind is Kind.PAUSE:
            self.fleet.note(self.name, "stands still", f"{fault.seconds} s")
            self.pause(fault.seconds)
        else:
            self.fleet.kill(self, fault)

    async def awake(self) -> None:
        """Where a process may find that it stood still, or is dead."""
        if not self._awake.is_set():
            await self._awake.wait()
        if not self.alive:
            raise Died

    async def perform(self, step: str, act: Callable[[], T]) -> T:
        """A request, on its way there and back. Once sent it arrives, whatever becomes of its sender."""
        await self.awake()
        loop = self.fleet.loop
        lost = self._fault(step)
        if loop.time() < self.cut_until_s or lost is False:
            await asyncio.sleep(self._latency("") + (0.5 if lost is None else 0.0))
            await self.awake()
            raise self._no_answer(step)
        answer: asyncio.Future[T] = loop.create_future()

        def arrive() -> None:
            try:
                result, error = act(), None
            except Exception as raised:  # noqa: BLE001 - whatever the cluster answers goes back to who asked
                result, error = None, raised
            if self.alive and error is None:
                self.effect(step, here=False)
            if lost is True:
                error = self._no_answer(step)
            loop.call_later(self._latency(""), deliver, result, error)

        def deliver(result: Any, error: Exception | None) -> None:
            if not answer.done():
                if error is not None:
                    answer.set_exception(error)
                else:
                    answer.set_result(result)

        loop.call_later(self._latency(step), arrive)
        try:
            return await answer
        finally:
            await self.awake()

    def _no_answer(self, step: str) -> Exception:
        """What a client says: it does not tell whether the request has arrived."""
        kinds: list[type[Exception]] = [KafkaConnectionError, RequestTimedOutError]
        if step in DEADLINED:
            kinds.append(TimeoutError)
        return self._random.choice(kinds)(f"simulated: no answer to {step}")

    def _latency(self, step: str) -> float:
        random = self._random.random
        latency = 0.0002 + 0.002 * random()
        if random() < 0.03:
            latency += 0.08 * random()
        if step in self.slow:
            seconds, until_s = self.slow[step]
            if self.fleet.loop.time() < until_s:
                latency += seconds
        return latency

    def _fault(self, step: str) -> bool | None:
        """Whether this request's answer is lost (True), or it never arrives (False), or it is carried."""
        waiting = self.faults.get(step)
        if not waiting:
            return None
        skip, lost = waiting[0]
        if skip:
            waiting[0] = skip - 1, lost
            return None
        waiting.pop(0)
        self.fleet.note(self.name, "answer lost" if lost else "request lost", step)
        return lost

    async def idle(self) -> None:
        """How long a broker holds a fetch that brings nothing."""
        await self.sleep(0.1 + 0.2 * self._random.random())

    def settled_end(self, log: PartitionLog) -> int:
        """The end that the leader tells which this process asks."""
        end = log.settled_end
        old = self.worker.deposed.get((log.topic, log.partition))
        return end if old is None else min(old, end)

    # What the group tells it

    async def revoked(self) -> None:
        """A rebalance begins: let the rounds under way come to their ends."""
        await self.awake()
        await self.holdings.suspend()
        await self.awake()

    async def assigned(self, generation: int, buckets: Sequence[int], standing_by: Collection[int]) -> None:
        """The group has decided. News that is older than what is known is none."""
        await self.awake()
        if generation <= self.generation:
            return
        self.generation = generation
        self.fleet.note(self.name, "assigned", f"{buckets}, stands by for {sorted(standing_by)}")
        topics = sorted({topic for agent in self.worker.agents for topic in agent.sources})
        numbers = partitions_of(buckets, self.worker.settings.buckets, self.worker.settings.partitions)
        self.consumer.assign([TopicPartition(topic, number) for topic in topics for number in numbers])
        self.holdings.assign(buckets, standing_by)

    def warm(self) -> tuple[int, ...]:
        """The buckets whose rows are here, but are not served."""
        return tuple(self.holdings.warm(self.worker.stores))

    def _world(self, bucket: int) -> World:
        return World(
            cluster=self._client,
            stores=Disk(self),
            source=self.consumer,
            group_offset=self._group_offset,
            clock=self,
            settings=self.worker.settings,
            topics=self.fleet.topics,
            announcement=self._directory.announcement(bucket, [agent.name for agent in self.worker.agents]),
            on_committed=self._told,
            on_round=lambda shard, rows, emitted: self._told(shard, rows),
            on_effect=self.effect,
        )

    def _told(self, shard: Shard, rows: Rows) -> None:
        """Views, the bus and live pages hear of rows."""
        self.fleet.watch.told(shard.agent.name, shard.partition, shard.opened(), rows)

    # The disk and the clock

    def monotonic(self) -> float:
        """Seconds that only grow."""
        return self.fleet.loop.time()

    def epoch_ms(self) -> int:
        """What this machine believes the time to be."""
        return self.fleet.epoch_ms() + self.worker.skew_ms

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)
        await self.awake()

    # In the background

    async def _group_offset(self, partition: TopicPartition) -> int | None:
        return await self.perform("group_offset", lambda: self.worker.group.offsets.get(partition))

    async def _report_positions(self) -> None:
        while True:
            await self.sleep(self.worker.settings.group_offsets_interval)
            ready = [pipeline for pipeline in self.holdings.pipelines.values() if pipeline.ready]
            positions = {source: at for pipeline in ready for source, at in pipeline.committed_positions().items()}
            try:
                await self.perform("group_commit", partial(self.worker.group.offsets.update, positions))
            except KafkaError:
                continue

    async def _tick(self) -> None:
        while True:
            await self.sleep(TICK_EVERY_S)
            waiting = [shard for shard in self.holdings.served_shards() if shard.waits_for_time()]
            partitions = {TopicPartition(s.agent.ticking.topic, s.partition): 0 for s in waiting if s.agent.ticking}
            value = msgspec.json.encode({"time": self.fleet.instant(self.epoch_ms())})
            for partition in sorted(partitions):
                try:
                    await self.perform("tick", partial(self.fleet.cluster.append, partition, (None, value)))
                except KafkaError:
                    break
