"""Replaying a shard's log into its store: what opening a pipeline and standing by have in common."""

from __future__ import annotations

import logging

from app.kernel.errors import RetryablePipelineError
from app.runtime.batch import Batch
from app.runtime.folding import fold_round
from app.runtime.ports import Clock, LogBounds, LogChunk, Progress, TopicPartition
from app.runtime.refusals import check_log
from app.runtime.shard import Shard
from app.runtime.topics import CHANGELOG_DELETE_RETENTION_S, Topics

log = logging.getLogger(__name__)

CLOCKS_DIFFER_S_MAX = 3_600.0
"""A store that was written later than it is now, by more than that, has an age that nobody knows."""

Written = dict[bytes, bytes | None]


class Replay:
    """The rules: which log is a shard's, where in it its store stands, and how a chunk of it is applied."""

    def __init__(self, clock: Clock, topics: Topics) -> None:
        self._clock = clock
        self._topics = topics

    def log_of(self, shard: Shard) -> TopicPartition:
        """The changelog; of an agent without one its source."""
        agent = shard.agent
        topic = self._topics.changelog(agent.name) if agent.logged else agent.sources[0]
        return TopicPartition(topic, shard.partition)

    def start(self, shard: Shard, bounds: LogBounds) -> int:
        """Where to begin; a store that its log cannot complete any more is wiped."""
        store = shard.opened()
        progress = store.progress
        if progress is None:
            return bounds.begin
        check_log(shard, progress)
        age_s = (self._clock.epoch_ms() - progress.written_ms) / 1000
        stale = shard.agent.logged and not -CLOCKS_DIFFER_S_MAX <= age_s <= CHANGELOG_DELETE_RETENTION_S
        if stale or not bounds.begin <= progress.position <= bounds.end:
            log.warning(
                "%s/%s: the local store is %s: rebuilding it",
                shard.agent.name,
                shard.partition,
                f"{age_s:.0f} s old, and tombstones may be gone" if stale else "outside of its log",
            )
            shard.warm = False
            store.wipe()
            return bounds.begin
        return progress.position

    def apply(self, shard: Shard, chunk: LogChunk) -> Written:
        """Write what a chunk of the shard's log says; the rows."""
        self._check_age(shard, chunk)
        rows = self._rows(chunk) if shard.agent.logged else self._folded(shard, chunk)
        shard.opened().write(rows, Progress(chunk.position, shard.log_id, self._clock.epoch_ms()))
        return rows

    def _check_age(self, shard: Shard, chunk: LogChunk) -> None:
        """Refuse to go on where we stood still for so long that tombstones went meanwhile: `start` then begins anew.

        A log that was merely quiet goes on right where we are, with a record that is young.
        """
        progress = shard.opened().progress
        oldest_ms = self._clock.epoch_ms() - round(CHANGELOG_DELETE_RETENTION_S * 1000)
        if not shard.agent.logged or progress is None or progress.written_ms >= oldest_ms:
            return
        first = chunk.records[0] if chunk.records else None
        if first is None or first.offset > chunk.start or first.timestamp < oldest_ms:
            raise RetryablePipelineError(
                f"{shard.agent.name}/{shard.partition} stood still at {chunk.start} of its log, and tombstones behind "
                "that may be gone: the local store is rebuilt"
            )

    def _rows(self, chunk: LogChunk) -> Written:
        return {record.key: record.value for record in chunk.records if record.key is not None}

    def _folded(self, shard: Shard, chunk: LogChunk) -> Written:
        batch = Batch(chunk.partition, chunk.records, 0, chunk.start, chunk.position)
        return dict(fold_round(shard, [(batch, chunk.start)], dead_letters="").unit.changes())
