"""Opening shards: fence, restore, check. Only then may a pipeline fold.

1. The transactional producer has started: the older owner is fenced and its pending transaction is ended.
2. One fence record is committed to each changelog partition. A leader that was deposed, but that clients still reach,
   would answer with an old end and no error; a restore past our own fence record cannot fall for that.
3. Rows are restored from the position that the local store remembers, past the fence.
4. Whatever would lose or double data refuses to open.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from app.kernel.errors import OpenRefused, RetryablePipelineError
from app.runtime.outbox import Outbox
from app.runtime.ports import (
    Clock,
    Cluster,
    LogBounds,
    StoreFactory,
    TopicPartition,
    TransactionalProducer,
)
from app.runtime.refusals import check_adoption, check_group, check_meta, check_position
from app.runtime.replay import Replay
from app.runtime.shard import FENCE_PREFIX, Shard
from app.runtime.stats import Restoring
from app.runtime.topics import Topics

log = logging.getLogger(__name__)

GroupOffset = Callable[[TopicPartition], Awaitable[int | None]]
"""The consumer group's committed offset of a source partition, or `None`."""

TELL_EVERY_S = 2.0
SOURCE_END_PATIENCE_S = 10.0
"""How long a source may seem to end before our position. Clients learn of new leaders within seconds."""
SOURCE_END_AGAIN_S = 0.5


class TopicsMissing(RetryablePipelineError):
    """A shard's topics are not there: it cannot be opened yet."""


@dataclass(frozen=True)
class OpeningRules:
    """What an opening may do. `adopt` names foreign transactional ids whose state a person has told us to take over."""

    transactional_id: str
    buckets: int
    topics: Topics
    adopt: frozenset[str] = frozenset()
    accept_loss: frozenset[str] = frozenset()


class Opening:
    """Opens the shards of one bucket. One use, one attempt."""

    def __init__(
        self, cluster: Cluster, stores: StoreFactory, clock: Clock, rules: OpeningRules, restoring: Restoring
    ) -> None:
        self._cluster = cluster
        self._stores = stores
        self._clock = clock
        self._rules = rules
        self._replay = Replay(clock, rules.topics)
        self._restoring = restoring
        self.adopted: set[str] = set()

    async def open(self, producer: TransactionalProducer, shards: Sequence[Shard], group_offset: GroupOffset) -> None:
        """Bring every shard to the state that its log holds, or raise."""
        for shard in shards:
            if shard.store is None:
                shard.store = self._stores(shard.agent.name, shard.partition)
        ids = await self._topic_ids(shards)
        for shard in shards:
            shard.log_id = ids[self._replay.log_of(shard).topic]
        logged = [shard for shard in shards if shard.agent.logged]
        fenced = await self._fence(producer, logged)
        await self._restore(shards, fenced)
        foreign = {found for shard in logged for found in shard.foreign_fences(self._rules.transactional_id)}
        if foreign:
            await self._adopt(producer, logged, foreign)
        try:
            for shard in shards:
                self._take_positions(shard, ids)
            await self._check_sources(shards, group_offset)
        except OpenRefused:
            # A process that stood still since its restore compares old rows with a new world, and proves nothing: where
            # another owner came meanwhile this is fenced, and we begin again instead of refusing for good.
            await self._fence(producer, logged)
            raise
        for shard in shards:
            shard.load_parked()
            shard.restored = True

    def log_topics(self, shards: Sequence[Shard]) -> list[str]:
        """The topics of the shards' logs."""
        return [self._replay.log_of(shard).topic for shard in shards]

    async def _topic_ids(self, shards: Sequence[Shard]) -> dict[str, str]:
        wanted = {self._replay.log_of(shard).topic for shard in shards}
        wanted.update(topic for shard in shards for topic in shard.agent.sources)
        ids = await self._cluster.topic_ids(sorted(wanted))
        if missing := sorted(wanted - ids.keys()):
            raise TopicsMissing(f"topics are missing: {', '.join(missing)}; make them with: fleet topics")
        return ids

    async def _fence(
        self, producer: TransactionalProducer, shards: Sequence[Shard], forget: Iterable[str] = ()
    ) -> dict[TopicPartition, int]:
        """Commit our fence row, and tombstones for the fences of ids that were adopted, to every changelog.

        The offset behind that row in each: a restore must come so far, whatever end it is told.
        """
        outbox = Outbox(producer.new_batch)
        rows: list[tuple[bytes, bytes | None]] = [(FENCE_PREFIX + self._rules.transactional_id.encode(), b"1")]
        rows += [(FENCE_PREFIX + gone.encode(), None) for gone in forget]
        for shard in shards:
            outbox.add_rows(self._replay.log_of(shard), rows)
        if not outbox:
            return {}
        ends = await outbox.produce(producer)
        await producer.commit()
        return ends

    async def _adopt(self, producer: TransactionalProducer, shards: Sequence[Shard], foreign: set[str]) -> None:
        """Take over state that another role or bucket owned: fence those ids, look again, delete their rows."""
        check_adoption(self._rules.transactional_id, foreign, self._rules.adopt)
        for transactional_id in sorted(foreign):
            other = self._cluster.producer(transactional_id)
            try:
                await other.start()
            finally:
                await other.close()
        fenced = await self._fence(producer, shards, sorted(foreign))
        await self._restore(shards, fenced)
        self.adopted = foreign

    # Restoring

    async def _restore(self, shards: Sequence[Shard], fenced: Mapping[TopicPartition, int]) -> None:
        """Read every log to its end, and at least to the end of our own fence record.

        The broker answers a commit a moment before the record is settled in every partition: an end that is asked for
        at once may lie before it, as may the end that a deposed leader tells. The reader waits for what is not there.
        """
        by_log = {self._replay.log_of(shard): shard for shard in shards}
        async with self._cluster.reader() as reader:
            told = await reader.bounds(list(by_log))
            bounds = {log: LogBounds(at.begin, max(at.end, fenced.get(log, 0))) for log, at in told.items()}
            starts = {log: self._replay.start(shard, bounds[log]) for log, shard in by_log.items()}
            behind = {log: start for log, start in starts.items() if start < bounds[log].end}
            self._restoring.begin(sum(bounds[log].end - start for log, start in behind.items()))
            told_s = self._clock.monotonic()
            async for chunk in reader.read(behind, {log: bounds[log].end for log in behind}):
                self._replay.apply(by_log[chunk.partition], chunk)
                self._restoring.took(len(chunk.records), chunk.position - chunk.start)
                if self._clock.monotonic() - told_s > TELL_EVERY_S:
                    told_s = self._clock.monotonic()
                    log.info("%s is restoring: %s", self._rules.transactional_id, self._restoring)

    def _take_positions(self, shard: Shard, ids: dict[str, str]) -> None:
        now = {topic: ids[topic] for topic in shard.agent.sources}
        shard.source_ids = now
        if not shard.agent.logged:
            progress = shard.opened().progress
            shard.positions = {shard.agent.sources[0]: progress.position if progress else 0}
            return
        meta = shard.stored_meta()
        shard.starts = {}
        if meta is not None:
            check_meta(shard, meta, now, buckets=self._rules.buckets, adopting=bool(self._rules.adopt))
        shard.positions = dict(meta.positions) if meta else {}
        shard.told = dict(meta.told) if meta else {}

    async def _check_sources(self, shards: Sequence[Shard], group_offset: GroupOffset) -> None:
        sources = sorted({TopicPartition(topic, shard.partition) for shard in shards for topic in shard.agent.sources})
        accepted = self._rules.accept_loss
        told = {source: await group_offset(source) for source in sources}
        bounds = await self._source_bounds(sources, shards, told)
        for source in sources:
            readers = [s for s in shards if s.partition == source.partition and source.topic in s.agent.sources]
            check_group(source, readers, told[source], source_end=bounds[source].end, accept_loss=accepted)
            for shard in readers:
                check_position(shard, source.topic, bounds[source], accept_loss=accepted)

    async def _source_bounds(
        self, sources: Sequence[TopicPartition], shards: Sequence[Shard], told: Mapping[TopicPartition, int | None]
    ) -> dict[TopicPartition, LogBounds]:
        """The sources' bounds. An end before our position, or before what the group was told, is asked for again: a
        deposed leader tells an old one."""
        furthest = {
            s: max(told[s] or 0, *(shard.position(s.topic) for shard in shards if shard.partition == s.partition))
            for s in sources
        }
        deadline_s = self._clock.monotonic() + SOURCE_END_PATIENCE_S
        async with self._cluster.reader() as reader:
            while True:
                bounds = await reader.bounds(sources)
                if all(furthest[s] <= bounds[s].end for s in sources) or self._clock.monotonic() >= deadline_s:
                    return bounds
                await self._clock.sleep(SOURCE_END_AGAIN_S)
