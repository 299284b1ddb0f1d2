"""What a worker holds: the buckets that it serves and those that it stands by for, each with one task at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Sequence, Set
from typing import Any

from app.runtime.agent import Agent
from app.runtime.buckets import partitions_of
from app.runtime.lifecycle import State
from app.runtime.pipeline import Pipeline
from app.runtime.ports import StoreFactory, TopicPartition
from app.runtime.settings import Settings
from app.runtime.shard import Shard
from app.runtime.standby import Standby
from app.runtime.stats import PipelineStats
from app.runtime.world import World

log = logging.getLogger(__name__)

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class Holdings:
    """Pipelines and standbys by bucket, as the group gives them out.

    ::

        nothing ──▶ pipeline ◀──open stores──▶ standby ──▶ nothing

    What has a bucket next begins when what had it before has let go: stores pass from one to the other open, so that
    their rows can be read throughout. `agents` are those of this moment; they change while read models are built anew.
    """

    def __init__(
        self,
        settings: Settings,
        agents: Callable[[], Sequence[Agent]],
        world: Callable[[int], World],
        *,
        spawn: Spawn = asyncio.create_task,
        on_caught_up: Callable[[int], None] = lambda bucket: None,
        on_standby_ended: Callable[[int], None] = lambda bucket: None,
    ) -> None:
        self.pipelines: dict[int, Pipeline] = {}
        self.standbys: dict[int, Standby] = {}
        self.stats: dict[int, PipelineStats] = {}
        self.torn = 0
        self._settings, self._agents, self._world, self._spawn = settings, agents, world, spawn
        self._on_caught_up, self._on_standby_ended = on_caught_up, on_standby_ended
        self._tasks: dict[int, asyncio.Task[None]] = {}

    # What others ask

    def held(self) -> list[int]:
        """The buckets that are served here: the assignor leaves them where they are if it can."""
        return sorted(self.pipelines)

    def warm(self, stores: StoreFactory) -> list[int]:
        """The buckets whose rows are here besides, from standing by or from an earlier life of this worker."""
        agents = self._agents()
        logged = [a for a in agents if a.logged and not a.building] or agents
        return [
            bucket
            for bucket in range(self._settings.buckets)
            if bucket not in self.pipelines
            and all(stores.holds(a.name, number) for number in self._numbers(bucket) for a in logged)
        ]

    def pipeline_of(self, partition: int) -> Pipeline | None:
        """What serves a partition here."""
        return self.pipelines.get(partition % self._settings.buckets)

    def served_shards(self) -> list[Shard]:
        """The open shards of every bucket that is served here now."""
        return [shard for pipeline in self.pipelines.values() if pipeline.ready for shard in pipeline.shards]

    def shard(self, agent: str, partition: int) -> Shard | None:
        """The open shard, where it is served here now."""
        pipeline = self.pipeline_of(partition)
        if pipeline is None or not pipeline.ready:
            return None
        return next((s for s in pipeline.shards if s.agent.name == agent and s.partition == partition), None)

    def standby_shard(self, agent: str, partition: int) -> Shard | None:
        """The shard of a bucket that is not served here (yet), where its rows are warm: a moment old."""
        bucket = partition % self._settings.buckets
        holder = self.standbys.get(bucket) or self.pipelines.get(bucket)
        shards = holder.shards if holder is not None else ()
        return next((s for s in shards if s.agent.name == agent and s.partition == partition and s.warm), None)

    def whole(self, assigned: Set[TopicPartition], topics: Sequence[str]) -> set[int]:
        """The buckets that came with all of their partitions. One that is torn has no owner, and stays closed."""
        whole: set[int] = set()
        for bucket in {partition.partition % self._settings.buckets for partition in assigned}:
            wanted = {TopicPartition(topic, number) for topic in topics for number in self._numbers(bucket)}
            if wanted <= assigned:
                whole.add(bucket)
            else:
                self.torn += 1
                log.error("bucket %d is torn: %s are missing; it stays closed", bucket, sorted(wanted - assigned))
        return whole

    # What the group decides

    async def suspend(self) -> None:
        """A rebalance begins: let the rounds under way come to their ends, within a third of the session."""
        settle_s = min(2.0, self._settings.session_timeout / 3)
        await asyncio.gather(*(pipeline.suspend(settle_s) for pipeline in self.pipelines.values()))

    def assign(self, serve: Collection[int], stand_by: Collection[int]) -> None:
        """Serve these buckets from now on, and keep those warm; let go of all others."""
        standing_by = set(stand_by) - set(serve)
        left = [self.pipelines.pop(bucket) for bucket in list(self.pipelines) if bucket not in serve]
        for gone in left:
            gone.close(hand_over=gone.bucket in standing_by)
        for bucket in [bucket for bucket in self.standbys if bucket not in (*standing_by, *serve)]:
            self.standbys.pop(bucket).close()
            self._on_standby_ended(bucket)
        for bucket in sorted(serve):
            if (pipeline := self.pipelines.get(bucket)) is not None and pipeline.state is not State.CLOSED:
                pipeline.resume()
            else:
                self._start_pipeline(bucket)
        open_shards = {gone.bucket: gone.shards for gone in left}
        for bucket in sorted(standing_by - self.standbys.keys()):
            self._start_standby(bucket, self._shards(bucket, open_shards.get(bucket, ())))

    def agents_changed(self) -> None:
        """Serve, and keep warm, the agents that there are now."""
        for bucket, pipeline in self.pipelines.items():
            pipeline.serve(self._shards(bucket, pipeline.shards))
        for bucket, standby in list(self.standbys.items()):
            shards = self._shards(bucket, standby.shards)
            standby.close(hand_over=shards)
            self._start_standby(bucket, shards)

    def try_again(self) -> None:
        """Open what pipelines had to leave out."""
        for bucket, pipeline in self.pipelines.items():
            if pipeline.left_out is not None:
                pipeline.serve(self._shards(bucket, pipeline.shards))

    async def close(self) -> set[asyncio.Task[None]]:
        """End everything, within the deadline; the tasks that were late."""
        for pipeline in self.pipelines.values():
            pipeline.close()
        for standby in self.standbys.values():
            standby.close()
        tasks = [task for task in self._tasks.values() if not task.done()]
        return (await asyncio.wait(tasks, timeout=self._settings.close_timeout))[1] if tasks else set()

    def _start_pipeline(self, bucket: int) -> None:
        """Serve a bucket, with the open stores of its standby where there was one."""
        standby = self.standbys.pop(bucket, None)
        if standby is not None:
            standby.close(hand_over=standby.shards)
        shards = self._shards(bucket) if standby is None else standby.shards
        stats = self.stats.setdefault(bucket, PipelineStats())
        pipeline = self.pipelines[bucket] = Pipeline(bucket, shards, self._world(bucket), stats)
        self._run_next(bucket, pipeline.run)

    def _start_standby(self, bucket: int, shards: Sequence[Shard]) -> None:
        world = self._world(bucket)
        standby = self.standbys[bucket] = Standby(
            bucket,
            shards,
            cluster=world.cluster,
            stores=world.stores,
            clock=world.clock,
            topics=world.topics,
            on_written=world.on_committed,
            on_caught_up=self._on_caught_up,
        )
        self._run_next(bucket, standby.run)

    def _shards(self, bucket: int, there: Sequence[Shard] = ()) -> list[Shard]:
        """The shards of a bucket: those that are there already, and new ones."""
        known = {(shard.agent.name, shard.partition): shard for shard in there}
        wanted = [(agent, number) for number in self._numbers(bucket) for agent in self._agents()]
        for agent, number in wanted:
            if (shard := known.get((agent.name, number))) is not None and shard.agent.building != agent.building:
                shard.agent = agent  # it is read from now on
        return [known.get((agent.name, number)) or Shard(agent, number) for agent, number in wanted]

    def _numbers(self, bucket: int) -> list[int]:
        return partitions_of([bucket], self._settings.buckets, self._settings.partitions)

    def _run_next(self, bucket: int, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run what has the bucket from now on, when what had it before has let go of its stores."""
        before = self._tasks.get(bucket)

        async def in_turn() -> None:
            if before is not None:
                await asyncio.wait([before])
            try:
                await run()
            except Exception:
                log.exception("bucket %d is served here no more, until the next rebalance", bucket)
                raise

        self._tasks[bucket] = self._spawn(in_turn())
