"""A standby: the rows of one bucket kept warm in a worker that does not serve it, for the day when it must."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence

from app.kernel.errors import FleetError, OpenRefused
from app.runtime.patience import pause_s, tell_trouble, unless
from app.runtime.ports import Clock, Cluster, LogBounds, StoreFactory, TopicPartition
from app.runtime.replay import Replay, Written
from app.runtime.shard import META_KEY, Shard
from app.runtime.topics import Topics

log = logging.getLogger(__name__)

BACKOFF_S_MAX = 3.0


class Standby:
    """Follows the logs of a bucket's shards into stores of its own.

    ::

        FOLLOWING ──any error──▶ back-off ──▶ FOLLOWING
        either ──close──▶ closed: the stores are closed, or handed over open to the bucket's new pipeline

    It writes nothing but its own stores, so it needs no fence: a pipeline that takes the stores over replays their
    logs' tails past a fence of its own, as it does after any restart. Its rows are a moment old; `caught_up` says
    whether they have been as new as their logs were when it last began.
    """

    def __init__(
        self,
        bucket: int,
        shards: Sequence[Shard],
        *,
        cluster: Cluster,
        stores: StoreFactory,
        clock: Clock,
        topics: Topics,
        on_written: Callable[[Shard, Written], None] = lambda shard, rows: None,
        on_caught_up: Callable[[int], None] = lambda bucket: None,
    ) -> None:
        self.bucket = bucket
        self.shards = tuple(shards)
        self.caught_up = False
        self.behind = 0
        self.rows = 0
        self._cluster, self._stores, self._clock = cluster, stores, clock
        self._replay = Replay(clock, topics)
        self._on_written, self._on_caught_up = on_written, on_caught_up
        self._closing = asyncio.Event()
        self._failures = 0
        self._hand_over: Collection[Shard] = ()

    def close(self, *, hand_over: Collection[Shard] = ()) -> None:
        """End; `run` returns when it is done. `hand_over`: whose stores to leave open for what comes next."""
        self._hand_over = hand_over
        self._closing.set()

    async def run(self) -> None:
        """Follow until `close`. Errors are waited out; a log that must not be followed is left alone, loudly."""
        try:
            await unless(self._closing, self._follow_for_ever)
        finally:
            for shard in self.shards:
                if shard not in self._hand_over:
                    self._release(shard)

    async def _follow_for_ever(self) -> None:
        while True:
            try:
                await self._follow()
            except OpenRefused as error:
                log.error("bucket %d cannot be kept warm: %s", self.bucket, error)  # noqa: TRY400 - a refusal, no defect
                await self._closing.wait()
            except Exception as error:  # noqa: BLE001 - the standby's edge: one way out of every error
                await self._begin_again(error)

    async def _begin_again(self, error: Exception) -> None:
        self._failures += 1
        self.caught_up = False
        tell_trouble(log, error, "standing by for bucket %d begins again (%d)", self.bucket, self._failures)
        for shard in self.shards:
            self._release(shard)
        await self._clock.sleep(pause_s(self._failures, BACKOFF_S_MAX))

    async def _follow(self) -> None:
        ids = await self._cluster.topic_ids(sorted({self._replay.log_of(shard).topic for shard in self.shards}))
        by_log = {self._replay.log_of(shard): shard for shard in self.shards if self._replay.log_of(shard).topic in ids}
        for at, shard in by_log.items():
            if shard.store is None:
                shard.store = self._stores(shard.agent.name, shard.partition)
            shard.log_id = ids[at.topic]
        async with self._cluster.reader() as reader:
            bounds = await reader.bounds(list(by_log))
            positions = {at: self._replay.start(shard, bounds[at]) for at, shard in by_log.items()}
            self._note(by_log, positions, bounds)
            async for chunk in reader.follow(positions):
                shard = by_log[chunk.partition]
                rows = self._replay.apply(shard, chunk)
                self.rows += len(chunk.records)
                positions[chunk.partition] = chunk.position
                self._note_position(shard, rows, chunk.position)
                self._on_written(shard, rows)
                if not self.caught_up:
                    self._note(by_log, positions, bounds)

    def _note(
        self,
        by_log: dict[TopicPartition, Shard],
        positions: dict[TopicPartition, int],
        bounds: dict[TopicPartition, LogBounds],
    ) -> None:
        """How far behind the ends of the beginning it is; from there on its rows may be shown."""
        self.behind = sum(max(0, bounds[at].end - positions[at]) for at in by_log)
        if self.behind:
            return
        for shard in by_log.values():
            meta = shard.stored_meta() if shard.agent.logged else None
            progress = shard.opened().progress
            shard.positions = dict(meta.positions) if meta else {}
            if not shard.agent.logged and progress is not None:
                shard.positions = {shard.agent.sources[0]: progress.position}
            shard.warm = True
        self.caught_up, self._failures = True, 0
        self._on_caught_up(self.bucket)

    def _note_position(self, shard: Shard, rows: Written, position: int) -> None:
        if not shard.agent.logged:
            shard.positions = {shard.agent.sources[0]: position}
        elif META_KEY in rows and (meta := shard.stored_meta()) is not None:
            shard.positions = dict(meta.positions)

    def _release(self, shard: Shard) -> None:
        try:
            shard.release()
        except FleetError as error:
            log.info("standing by for bucket %d: closing a store: %r", self.bucket, error)
