"""The pipeline: one bucket of a role, one transactional producer, one transaction per round."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from app.kernel.errors import OpenRefused, RetryablePipelineError
from app.runtime.batch import Batch
from app.runtime.catching_up import CatchUp
from app.runtime.guarding import TopicGuard
from app.runtime.inbox import Inbox, Waiting, settle
from app.runtime.lifecycle import State, check_step
from app.runtime.opening import Opening, OpeningRules, TopicsMissing
from app.runtime.patience import pause_s, tell_trouble, unless
from app.runtime.ports import TopicPartition, TransactionalProducer
from app.runtime.rounds import Plan, Terms, fold_plan, plan_round, write_round
from app.runtime.served import Served
from app.runtime.shard import Shard
from app.runtime.stats import PipelineStats
from app.runtime.world import World

log = logging.getLogger(__name__)


class Pipeline:
    """All agents of a role, in the partitions of one bucket.

    ::

                   ┌────────────── back-off ─────────────┐
                   ▼                                     │
        NEW ──▶ OPENING ──▶ RUNNING ──── any error ──▶ RECOVERING
                   │ │                                   ▲
                   │ └────────────── any error ──────────┘
                   └──▶ REFUSED (going on would lose data; a person decides)

        every state ──▶ CLOSING ──▶ CLOSED

    It trusts only its fenced producer and its changelogs: never the group's offsets, never what the consumer hands it.
    A round takes whatever batches wait, of all topics and agents, folds them in memory, commits one transaction with
    the changelog rows, the derived events and the new source positions, and only then writes the stores. There is one
    way out of every error: drop the producer and open again.

    One task (`run`) owns everything; others only `submit`, `suspend`, `resume` and `close`.
    """

    def __init__(self, bucket: int, shards: Sequence[Shard], world: World, stats: PipelineStats | None = None) -> None:
        self.bucket = bucket
        self.state = State.NEW
        self.stats = stats or PipelineStats()
        self.refusal: str | None = None
        self.left_out: str | None = None
        self.transactional_id = world.settings.transactional_id(bucket)
        self._world = world
        self._terms = Terms(world.topics, world.settings.buckets, self.transactional_id)
        self._served = Served(shards)
        self._epochs: dict[TopicPartition, int] = {}
        self._producer: TransactionalProducer | None = None
        self._inbox = Inbox(world.settings, world.clock)
        self._idle, self._closing = asyncio.Event(), asyncio.Event()
        self._idle.set()
        self._must_seek = self._must_announce = self._hand_over = False
        self._failures = 0
        self._catching_up = CatchUp(world.cluster, self.submit, self._seek_soon, world.settings.catch_up_records)
        self._guard = TopicGuard(world.cluster, self._replaced)
        self._trouble: RetryablePipelineError | None = None

    # What others may ask

    @property
    def shards(self) -> Sequence[Shard]:
        """What is served now."""
        return self._served.now

    @property
    def sources(self) -> Sequence[TopicPartition]:
        """The source partitions of this bucket."""
        return tuple(self._served.readers)

    @property
    def ready(self) -> bool:
        """Whether rounds are running and rows are restored."""
        return self.state is State.RUNNING

    @property
    def settled(self) -> bool:
        """Whether what is served is what was asked for, and nobody is far behind."""
        return self.ready and self._served.settled

    def source_positions(self) -> dict[TopicPartition, int]:
        """Per source the position that every agent has passed."""
        return self._served.positions()

    def committed_positions(self) -> dict[TopicPartition, int]:
        """Those of them that rounds have committed: what may be told to the group, which is held against us later."""
        return self._served.committed_positions()

    async def submit(self, batch: Batch, only: Shard | None = None) -> None:
        """Hand over a batch and wait until a round has taken it, or it was dropped and will be fetched again."""
        if not self.ready or not self._inbox.owned.is_set():
            self.stats.batches_dropped += 1
            return
        await self._inbox.put(batch, only)

    async def suspend(self, settle_s: float) -> bool:
        """A rebalance begins: start no further round; wait for the one under way. Whether it came to its end."""
        self._inbox.owned.clear()
        try:
            await asyncio.wait_for(self._idle.wait(), settle_s)
        except TimeoutError:
            log.warning("%s: a round is still under way as the rebalance goes on; it is fenced if lost", self)
            return False
        return True

    def resume(self) -> None:
        """The rebalance left us the bucket: go on, from our own positions.

        Whoever stood still may have missed that another had it meanwhile. So it is announced anew, in a transaction of
        ours: who was fenced notices at once, and not when the next record comes.
        """
        self._must_seek = self._must_announce = True
        self._inbox.owned.set()
        self._inbox.wake()

    def serve(self, shards: Sequence[Shard]) -> None:
        """Serve these from the next round on: new ones are opened beside the others, those left out are let go.

        New ones that cannot be opened are left out, and `left_out` says why.
        """
        if self._served.want(shards):
            self._inbox.wake()

    def close(self, *, hand_over: bool = False) -> None:
        """Finish the round under way and end; `run` returns when it is done.

        `hand_over`: leave the stores open for the standby that comes; until then their rows may be shown as old ones.
        """
        self._hand_over = hand_over
        for shard in self._served if hand_over else ():
            shard.warm = shard.restored
        self._closing.set()
        self._inbox.owned.set()
        self._inbox.wake()

    def __repr__(self) -> str:
        return f"<Pipeline {self.transactional_id} {self.state}>"

    # The task

    async def run(self) -> None:
        """Open, run rounds, recover, until `close`."""
        try:
            while not self._closing.is_set():
                await self._attempt()
        finally:
            self._to(State.CLOSING)
            self._inbox.drop()
            await asyncio.shield(self._release())
            self._to(State.CLOSED)

    async def _attempt(self) -> None:
        self._to(State.OPENING)
        try:
            await asyncio.wait_for(unless(self._closing, self._open), self._world.settings.open_timeout)
            if self._closing.is_set():
                return
            self._to(State.RUNNING)
            while not self._closing.is_set():
                await self._next_round()
        except OpenRefused as error:
            await self._refuse(error)
        except Exception as error:  # noqa: BLE001 - the pipeline's edge: one way out of every error
            await self._recover(error)

    async def _open(self) -> None:
        world, started = self._world, self._world.clock.monotonic()
        producer = self._producer = world.cluster.producer(self.transactional_id)
        await producer.start()
        world.on_effect("fenced")
        wanted, opening = self._served.wanted, self._opening()
        self._served.take(wanted)
        beside = [shard for shard in wanted if shard.agent.building]
        await opening.open(producer, [shard for shard in wanted if shard not in beside], world.group_offset)
        out = await self._open_beside(opening, producer, beside)
        self._served.take(wanted, but=out)
        world.on_effect("restored")
        self._must_announce = False
        await self._announce(producer)
        self._catching_up.start(self.shards, self._served.readers)
        self._trouble = None
        self._guard.start(self.shards, opening.log_topics(self.shards))
        # Not here: what is fetched behind a seek would come before rounds are running, be dropped, and not come again.
        self._seek_soon()
        self.stats.opened(world.clock.monotonic() - started)
        log.info(
            "%s open: %d rows restored in %.2f s%s",
            self.transactional_id,
            self.stats.restoring.rows,
            self.stats.open_s,
            f", adopted {', '.join(sorted(opening.adopted))}" if opening.adopted else "",
        )

    def _opening(self) -> Opening:
        world, settings = self._world, self._world.settings
        rules = OpeningRules(
            self.transactional_id, settings.buckets, world.topics, settings.adopted_ids, settings.loss_accepted
        )
        return Opening(world.cluster, world.stores, world.clock, rules, self.stats.opening())

    async def _open_beside(
        self, opening: Opening, producer: TransactionalProducer, shards: Sequence[Shard]
    ) -> Sequence[Shard]:
        """Open shards that nobody depends on yet. Those that cannot be: they must not hold up the others."""
        self.left_out = None
        try:
            if shards:
                await opening.open(producer, shards, _no_group_offset)
        except (OpenRefused, TopicsMissing) as error:
            self.left_out = str(error)
            log.error("%s goes on without %s: %s", self, shards[0].agent.name, error)  # noqa: TRY400 - no defect
            for shard in shards:
                shard.release()
            return shards
        return ()

    async def _change_shards(self) -> None:
        """Between two rounds: open what is new, let go of what is gone, and tell the directory. Others are read on."""
        served, producer, opening = self._served, self._producer, self._opening()
        if producer is None:
            raise RetryablePipelineError("the producer is gone")
        wanted = served.wanted
        new = [shard for shard in wanted if shard not in served.now]
        gone = [shard for shard in served.now if shard not in wanted]
        out = await self._open_beside(opening, producer, new)
        served.take(wanted, but=out)
        await self._announce(producer)
        for shard in gone:
            await self._catching_up.leave(shard)
            shard.release()
        self._catching_up.start([shard for shard in new if shard not in out], served.readers)
        await self._guard.stop()
        self._guard.start(self.shards, opening.log_topics(self.shards))
        await self._seek_all()
        log.info("%s: %d shards more, %d fewer", self.transactional_id, len(new), len(gone))

    async def _announce(self, producer: TransactionalProducer) -> None:
        """Tell the directory that this worker serves the bucket from now on."""
        announcement = self._world.announcement
        if announcement is not None:
            agents = dict.fromkeys(shard.agent.name for shard in self.shards)
            await announcement.of_agents(tuple(agents)).tell(producer, self._world.clock.epoch_ms())

    async def _announce_anew(self) -> None:
        if self._must_announce and self._producer is not None:
            self._must_announce = False
            await self._announce(self._producer)

    def _seek_soon(self) -> None:
        self._must_seek = True
        self._inbox.wake()

    def _replaced(self, topic: str) -> None:
        self._trouble = RetryablePipelineError(f"{topic} was deleted and made again while it was in use")
        self._inbox.wake()

    async def _next_round(self) -> None:
        todo = await self._inbox.take(lambda: self._closing.is_set() or self._must_seek)
        self._idle.clear()
        try:
            if self._trouble is not None:
                raise self._trouble
            if self._served.changing and not self._closing.is_set():
                limit_s = self._world.settings.open_timeout
                await asyncio.wait_for(unless(self._closing, self._change_shards), limit_s)
            elif self._must_seek:
                self._must_seek = False
                await asyncio.wait_for(self._announce_anew(), self._world.settings.round_timeout)
                await self._seek_all()
            elif todo and not self._closing.is_set():
                await asyncio.wait_for(self._round(todo), self._world.settings.round_timeout)
                self._failures = 0
        finally:
            self._idle.set()
            settle(todo)

    async def _round(self, todo: Sequence[Waiting]) -> None:
        fresh = [(w.batch, w.only) for w in todo if self._is_fresh(w)]
        self.stats.batches_dropped += len(todo) - len(fresh)
        plan = plan_round(fresh, self._served.readers)
        if plan.pieces:
            await self._transact(plan)
        for source in plan.gaps:
            self.stats.gaps += 1
            await self._seek(source)

    def _is_fresh(self, waiting: Waiting) -> bool:
        """Whether the batch was fetched after the last seek, or is for a shard alone that is still served."""
        if waiting.only is not None:
            return waiting.only in self._served
        return waiting.batch.epoch == self._epochs.get(waiting.batch.partition)

    async def _transact(self, plan: Plan) -> None:
        clock, producer = self._world.clock, self._producer
        if producer is None:
            raise RetryablePipelineError("the producer is gone")
        t0 = clock.monotonic()
        folded = fold_plan(plan, self._terms, producer.new_batch)
        t1 = clock.monotonic()
        self._world.on_effect("folded")
        log_ends: dict[TopicPartition, int] = {}
        t2 = t1
        if folded.outbox:
            log_ends = await folded.outbox.produce(producer)
            self._world.on_effect("produced")
            t2 = clock.monotonic()
            await producer.commit()
            self._world.on_effect("committed")
        t3 = clock.monotonic()
        for shard in write_round(plan, folded, self._terms, log_ends, clock.epoch_ms()):
            self._world.on_effect("written")
            self._world.on_committed(shard, folded.rows[shard])
            self._world.on_round(shard, folded.rows[shard], folded.parts[shard].unit.emitted)
        self.stats.round(folded.parts, (t0, t1, t2, t3, clock.monotonic()))

    async def _seek_all(self) -> None:
        for source in self._served.readers:
            await self._seek(source)

    async def _seek(self, source: TopicPartition) -> None:
        offset = self._served.next_offset(source)
        if offset is not None:
            self._epochs[source] = await self._world.source.seek(source, offset)

    # Ways out

    async def _refuse(self, error: OpenRefused) -> None:
        self.refusal = str(error)
        self._to(State.REFUSED)
        log.error("%s stays closed: %s", self.transactional_id, error)
        await self._release()
        await self._closing.wait()

    async def _recover(self, error: BaseException) -> None:
        self._to(State.RECOVERING)
        self._failures += 1
        self.stats.failed(error)
        tell_trouble(log, error, "%s starts over (%d)", self.transactional_id, self._failures)
        self._inbox.drop()
        await self._release()
        pause = pause_s(self._failures, self._world.settings.backoff_max)
        await unless(self._closing, lambda: self._world.clock.sleep(pause))

    async def _release(self) -> None:
        """Abort, drop the producer, close the stores. Every step has a deadline; none of them can fail the others."""
        await self._catching_up.stop()
        await self._guard.stop()
        producer, self._producer = self._producer, None
        limit = self._world.settings.close_timeout / 4
        if producer is not None:
            for step in (producer.abort, producer.close):
                try:
                    await asyncio.wait_for(step(), limit)
                except Exception as error:  # noqa: BLE001 - the next owner's start fences what is left
                    log.info("%s: %s on the way out: %r", self.transactional_id, step.__name__, error)
        for shard in self._served.known():
            if self._hand_over and shard in self._served.now and shard in self._served.wanted:
                shard.restored = False
                continue
            try:
                shard.release()
            except Exception:
                log.exception("%s: closing the store of %s", self.transactional_id, shard.agent.name)

    def _to(self, state: State) -> None:
        check_step(self.state, state)
        self.state = state
        self.stats.state_since = self._world.clock.monotonic()


async def _no_group_offset(partition: TopicPartition) -> int | None:
    """For shards that were never served here: the group knows nothing of them."""
    return None
