"""Lives of one pipeline on a simulated Kafka: it may die between any two of its steps, and is then started again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from app.runtime.agent import Agent
from app.runtime.pipeline import Pipeline
from app.runtime.ports import TopicPartition
from app.runtime.settings import Settings
from app.runtime.shard import RESERVED_PREFIX, Shard
from app.runtime.simulated import SimulatedClock, SimulatedCluster, SimulatedSource
from app.runtime.topics import Topic, Topics, partition_of
from app.runtime.world import World
from tables.memory import MemoryStores

T = TypeVar("T")

PARTITIONS = 2
SETTINGS = Settings(partitions=PARTITIONS, buckets=1, rounds_per_s_max=1e9, settle_ms=0, round_records_enough=1)
TOPICS = Topics()
TURNS_MAX = 20_000
MARKS_AFTER_REQUESTS = 3
TURNS_BEFORE_LATER = 8

Content = tuple[bytes | None, bytes | None]


class Died(BaseException):
    """The process was killed here."""


class Life(SimulatedCluster):
    """The cluster as one life of the process sees it: after its death, nothing that it does has any effect."""

    def __init__(self, shared: SimulatedCluster, dies_at: int | None) -> None:
        super().__init__(shared.clock)
        self.__dict__.update(vars(shared))
        self.on_effect = self.effect
        self.dead = asyncio.Event()
        self.effects = 0
        self._dies_at = dies_at

    def effect(self, name: str) -> None:
        """Count a side effect, and die of the one that was chosen."""
        self._check()
        self.effects += 1
        if self.effects == self._dies_at:
            self.dead.set()
            raise Died(name)

    async def perform(self, step: str, act: Callable[[], T]) -> T:
        """A request; the dead send none."""
        self._check()
        return await super().perform(step, act)

    def _check(self) -> None:
        if self.dead.is_set():
            raise Died


@dataclass
class Lived:
    """What is there in the end: settled records by topic and partition, and rows by agent and partition."""

    records: dict[TopicPartition, list[Content]]
    rows: dict[tuple[str, int], dict[bytes, bytes]]
    effects: int


@dataclass
class Town:
    """A Kafka, disks, agents, and the records that have come in."""

    agents: Sequence[Agent]
    topics: Sequence[Topic]
    settings: Settings = SETTINGS
    cluster: SimulatedCluster = field(
        default_factory=lambda: SimulatedCluster(SimulatedClock(runs=True), marks_after_requests=MARKS_AFTER_REQUESTS)
    )
    stores: MemoryStores = field(default_factory=MemoryStores)

    def __post_init__(self) -> None:
        self.cluster.create_topics(self.topics, PARTITIONS)

    def send(self, topic: str, records: Iterable[tuple[str, bytes]]) -> None:
        """Put records, given as (key, value), where their keys belong."""
        for key, value in records:
            self.cluster.append(TopicPartition(topic, partition_of(key, PARTITIONS)), (key.encode(), value))

    async def live(
        self,
        *,
        dies_at: int | None = None,
        batch: int = 500,
        disk_lost: bool = False,
        jumps: Sequence[int] = (),
        then: Sequence[Agent] | None = None,
    ) -> int:
        """One life: until everything is folded, or until its death. How many side effects it came to.

        `then` are the agents that it is to run from a moment in the middle of it on.
        """
        if disk_lost:
            self.stores.lose()
        life = Life(self.cluster, dies_at)
        shards = [Shard(agent, number) for number in range(PARTITIONS) for agent in self.agents]
        later = None if then is None else _regrouped(shards, then)
        source = SimulatedSource(life, _sources([*shards, *(later or ())]), batch_records_max=batch)
        pipeline = Pipeline(0, shards, self._world(life, source))
        running = asyncio.create_task(pipeline.run())
        dying = asyncio.create_task(life.dead.wait())
        try:
            await _feed(pipeline, source, life, list(jumps), later)
        finally:
            pipeline.close()
            await asyncio.wait({running})
            dying.cancel()
            await asyncio.gather(running, dying, return_exceptions=True)
            self.stores.crash()
        if not life.dead.is_set() and running.exception() is not None:
            raise AssertionError("the pipeline ended") from running.exception()
        return life.effects

    def _world(self, life: Life, source: SimulatedSource) -> World:
        async def no_group_offset(partition: TopicPartition) -> int | None:
            return None

        return World(
            cluster=life,
            stores=self.stores,
            source=source,
            group_offset=no_group_offset,
            clock=life.clock,
            settings=self.settings,
            topics=TOPICS,
            on_effect=life.effect,
        )

    async def lived(self) -> Lived:
        """Everything that can be seen from outside: logs, and rows as a fresh process would restore them."""
        self.stores.lose()
        effects = await self.live()
        emitted = sorted({topic for agent in self.agents for topic in agent.emits})
        partitions = [TopicPartition(topic, n) for topic in emitted for n in range(PARTITIONS)]
        records = {p: [(r.key, r.value) for r in self.cluster.records(p)] for p in partitions}
        rows: dict[tuple[str, int], dict[bytes, bytes]] = {}
        for agent in self.agents:
            for number in range(PARTITIONS):
                store = self.stores(agent.name, number)
                found = dict(store.scan(b"", limit=100_000))
                rows[agent.name, number] = {k: v for k, v in found.items() if not k.startswith(RESERVED_PREFIX)}
        return Lived(records, rows, effects)


def _regrouped(shards: Sequence[Shard], agents: Sequence[Agent]) -> list[Shard]:
    there = {(shard.agent.name, shard.partition): shard for shard in shards}
    wanted = [(agent, number) for number in range(PARTITIONS) for agent in agents]
    return [there.get((agent.name, number)) or Shard(agent, number) for agent, number in wanted]


def _sources(shards: Sequence[Shard]) -> list[TopicPartition]:
    return sorted({TopicPartition(topic, shard.partition) for shard in shards for topic in shard.agent.sources})


async def _feed(
    pipeline: Pipeline, source: SimulatedSource, life: Life, jumps: list[int], later: list[Shard] | None
) -> None:
    """Fetch and hand over, as the worker's consumer does, until nothing is left. It may `jump` somewhere unasked."""
    idle = 0
    for turn in range(TURNS_MAX):
        if life.dead.is_set() or pipeline.refusal is not None:
            return
        if not pipeline.ready:
            await asyncio.sleep(0)
            continue
        if later is not None and turn > TURNS_BEFORE_LATER:
            pipeline.serve(later)
            later = None
        if jumps:
            offset = jumps.pop()
            for partition in source.positions:
                source.jump(partition, min(offset, life.log(partition).end))
        batches = source.fetch_all()
        await asyncio.gather(*(pipeline.submit(batch) for batch in batches))
        idle = idle + 1 if not batches and source.idle and _all_folded(pipeline, source) else 0
        if idle > MARKS_AFTER_REQUESTS + 1 and later is None and pipeline.settled:
            return
        if idle and not life.dead.is_set():
            await life.topic_ids([])  # a request like others: by and by, marks become visible
        await asyncio.sleep(0)
    raise AssertionError(f"no end in sight: {pipeline!r} {pipeline.stats.last_error} {pipeline.source_positions()}")


def _all_folded(pipeline: Pipeline, source: SimulatedSource) -> bool:
    at = pipeline.source_positions()
    return all(at.get(partition, position) >= position for partition, position in source.positions.items())
