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

from app.kernel.errors import RetryablePipelineError
from app.runtime.batch import Batch
from app.runtime.folding import fold_round
from app.runtime.outbox import Outbox
from app.runtime.ports import (
    Clock,
    Cluster,
    LogBounds,
    LogChunk,
    LogReader,
    Progress,
    StoreFactory,
    TopicPartition,
    TransactionalProducer,
)
from app.runtime.refusals import check_adoption, check_group, check_log, check_meta, check_position
from app.runtime.shard import FENCE_PREFIX, Shard
from app.runtime.topics import CHANGELOG_DELETE_RETENTION_S, Topics

log = logging.getLogger(__name__)

GroupOffset = Callable[[TopicPartition], Awaitable[int | None]]
"""The consumer group's committed offset of a source partition, or `None`."""


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

    def __init__(self, cluster: Cluster, stores: StoreFactory, clock: Clock, rules: OpeningRules) -> None:
        self._cluster = cluster
        self._stores = stores
        self._clock = clock
        self._rules = rules
        self.rows = 0
        self.adopted: set[str] = set()

    async def open(self, producer: TransactionalProducer, shards: Sequence[Shard], group_offset: GroupOffset) -> None:
        """Bring every shard to the state that its log holds, or raise."""
        for shard in shards:
            if shard.store is None:
                shard.store = self._stores(shard.agent.name, shard.partition)
        ids = await self._topic_ids(shards)
        for shard in shards:
            shard.log_id = ids[self._log_of(shard).topic]
        logged = [shard for shard in shards if shard.agent.logged]
        fenced = await self._fence(producer, logged)
        await self._restore(shards, fenced)
        foreign = {found for shard in logged for found in shard.foreign_fences(self._rules.transactional_id)}
        if foreign:
            await self._adopt(producer, logged, foreign)
        for shard in shards:
            self._take_positions(shard, ids)
        await self._check_sources(shards, group_offset)
        for shard in shards:
            shard.load_parked()
            shard.restored = True

    def _log_of(self, shard: Shard) -> TopicPartition:
        agent = shard.agent
        topic = self._rules.topics.changelog(agent.name) if agent.logged else agent.sources[0]
        return TopicPartition(topic, shard.partition)

    async def _topic_ids(self, shards: Sequence[Shard]) -> dict[str, str]:
        wanted = {self._log_of(shard).topic for shard in shards}
        wanted.update(topic for shard in shards for topic in shard.agent.sources)
        ids = await self._cluster.topic_ids(sorted(wanted))
        if missing := sorted(wanted - ids.keys()):
            raise RetryablePipelineError(f"topics are missing: {', '.join(missing)}; make them with: fleet topics")
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
            outbox.add_rows(self._log_of(shard), rows)
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
        by_log = {self._log_of(shard): shard for shard in shards if shard.agent.logged}
        by_source = {self._log_of(shard): shard for shard in shards if not shard.agent.logged}
        async with self._cluster.reader() as reader:
            told = await reader.bounds([*by_log, *by_source])
            bounds = {log: LogBounds(at.begin, max(at.end, fenced.get(log, 0))) for log, at in told.items()}
            starts = {log: self._start(shard, bounds[log]) for log, shard in (by_log | by_source).items()}
            await self._replay(reader, starts, bounds, by_log, self._write_rows)
            await self._replay(reader, starts, bounds, by_source, self._fold_source)

    def _start(self, shard: Shard, bounds: LogBounds) -> int:
        """Where the restore begins; a store that its log cannot complete any more is wiped."""
        store = shard.opened()
        progress = store.progress
        if progress is None:
            return bounds.begin
        check_log(shard, progress)
        age_s = (self._clock.epoch_ms() - progress.written_ms) / 1000
        stale = shard.agent.logged and age_s > CHANGELOG_DELETE_RETENTION_S
        if stale or not bounds.begin <= progress.position <= bounds.end:
            log.warning(
                "%s/%s: the local store is %s: rebuilding it",
                shard.agent.name,
                shard.partition,
                f"{age_s:.0f} s old, and tombstones may be gone" if stale else "outside of its log",
            )
            store.wipe()
            return bounds.begin
        return progress.position

    async def _replay(
        self,
        reader: LogReader,
        starts: dict[TopicPartition, int],
        bounds: dict[TopicPartition, LogBounds],
        shards: dict[TopicPartition, Shard],
        apply: Callable[[Shard, LogChunk], None],
    ) -> None:
        behind = {log: starts[log] for log in shards if starts[log] < bounds[log].end}
        if not behind:
            return
        ends = {log: bounds[log].end for log in behind}
        async for chunk in reader.read(behind, ends):
            apply(shards[chunk.partition], chunk)
            self.rows += len(chunk.records)

    def _write_rows(self, shard: Shard, chunk: LogChunk) -> None:
        rows = {record.key: record.value for record in chunk.records if record.key is not None}
        shard.opened().write(rows, self._progress(shard, chunk.position))

    def _fold_source(self, shard: Shard, chunk: LogChunk) -> None:
        batch = Batch(chunk.partition, chunk.records, 0, chunk.start, chunk.position)
        folded = fold_round(shard, [(batch, chunk.start)], dead_letters="")
        shard.opened().write(dict(folded.unit.changes()), self._progress(shard, chunk.position))

    def _progress(self, shard: Shard, position: int) -> Progress:
        return Progress(position, shard.log_id, self._clock.epoch_ms())

    def _take_positions(self, shard: Shard, ids: dict[str, str]) -> None:
        now = {topic: ids[topic] for topic in shard.agent.sources}
        shard.source_ids = now
        if not shard.agent.logged:
            progress = shard.opened().progress
            shard.positions = {shard.agent.sources[0]: progress.position if progress else 0}
            return
        meta = shard.stored_meta()
        if meta is not None:
            check_meta(shard, meta, now, buckets=self._rules.buckets, adopting=bool(self._rules.adopt))
        shard.positions = dict(meta.positions) if meta else {}

    async def _check_sources(self, shards: Sequence[Shard], group_offset: GroupOffset) -> None:
        sources = sorted({TopicPartition(topic, shard.partition) for shard in shards for topic in shard.agent.sources})
        async with self._cluster.reader() as reader:
            bounds = await reader.bounds(sources)
        for source in sources:
            readers = [s for s in shards if s.partition == source.partition and source.topic in s.agent.sources]
            check_group(source, readers, await group_offset(source))
            for shard in readers:
                check_position(shard, source.topic, bounds[source], accept_loss=self._rules.accept_loss)
