"""A role: one Faust app, one consumer group, and a pipeline for every bucket that the group gives to this worker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import faust
from faust.types import TP

from app.kernel.errors import ConfigurationRefused, FleetError
from app.runtime.agent import Agent
from app.runtime.background import Background, Work
from app.runtime.batch import Batch
from app.runtime.directory import Directory
from app.runtime.faust_shell import commands as _commands  # noqa: F401 - replaces Faust's own
from app.runtime.faust_shell.assignor import BucketAssignor
from app.runtime.faust_shell.boot import BrokerGate, GatedBoot
from app.runtime.faust_shell.consumer import BatchConsumer, BatchSchema, BatchTransport, Reach
from app.runtime.flow import Flow
from app.runtime.generations import Generations, Standing, Standings
from app.runtime.holdings import Holdings
from app.runtime.kafka.connection import METADATA_MAX_AGE_MS
from app.runtime.kafka.sender import RecordSender
from app.runtime.pipeline import Pipeline
from app.runtime.ports import Clock, Cluster, StoreFactory, TopicPartition
from app.runtime.settings import Settings
from app.runtime.shard import Shard
from app.runtime.ticking import tell_the_time
from app.runtime.topics import Topics
from app.runtime.unit import Emitted
from app.runtime.world import OnEffect, Rows, World

log = logging.getLogger(__name__)

WATCH_EVERY_S = 1.0
ANSWER_AGE_MS_MAX = 5_000
"""A source whose broker has not answered a fetch for longer may hold records that nobody knows of."""
MEND_EVERY_S = 5.0

CommitListener = Callable[[Shard, Rows], None]
"""Told of rows that were written here: in a round, or while standing by."""
RoundListener = Callable[[Shard, Rows, Sequence[Emitted]], None]
"""Told of a shard's part of a committed round, rows and derived records: by the worker that serves it alone."""


class RoleApp(faust.App):
    """Faust's app, CLI, worker, agents and web; the engine's pipelines in place of its per-event path.

    One Faust agent per source topic takes the fetched batches, each partition's in its own actor, hands them to the
    partition's pipeline and waits.
    """

    BootStrategy = GatedBoot

    def __init__(
        self,
        settings: Settings,
        agents_of: Callable[[Standings], Sequence[Agent]],
        sources: Sequence[str],
        *,
        cluster: Cluster,
        stores: StoreFactory,
        clock: Clock,
        **faust_settings: Any,
    ) -> None:
        self.fleet_settings = settings
        self.fleet_topics = Topics(settings.topic_prefix)
        self._agents_of = agents_of
        self.fleet_agents = checked(agents_of({}))
        self._background = Background(clock)
        self.holdings = Holdings(
            settings,
            lambda: self.fleet_agents,
            self._world,
            on_caught_up=lambda bucket: self._tell_standby(bucket, stands=True),
            on_standby_ended=lambda bucket: self._tell_standby(bucket, stands=False),
        )
        self.standing_by: frozenset[int] = frozenset()
        self.commit_listeners: list[CommitListener] = []
        self.round_listeners: list[RoundListener] = []
        self.upkeep: dict[str, Work] = {}
        self.directory = Directory(settings, self.fleet_topics)
        self.generations = Generations(self.fleet_topics)
        self.lag: dict[TopicPartition, int] = {}
        self._reaches: Mapping[TopicPartition, Reach] = {}
        self.drained: frozenset[TopicPartition] = frozenset()
        self.flow = Flow()
        self.assigned = False
        self.pulse = self.brokers_heard = clock.monotonic()
        self._signs_of_brokers = (0, 0)
        self._cluster, self._stores, self._clock = cluster, stores, clock
        self._on_effect: OnEffect = lambda name: None
        super().__init__(
            settings.group,
            broker=[f"kafka://{broker.strip()}" for broker in settings.brokers.split(",")],
            broker_session_timeout=settings.session_timeout,
            broker_heartbeat_interval=settings.heartbeat_interval,
            broker_request_timeout=settings.request_timeout_s,
            consumer_metadata_max_age_ms=METADATA_MAX_AGE_MS,
            producer_metadata_max_age_ms=METADATA_MAX_AGE_MS,
            broker_max_poll_records=settings.poll_records_max,
            consumer_max_fetch_size=settings.fetch_partition_bytes_max,
            consumer_auto_offset_reset="earliest",
            consumer_group_instance_id=settings.worker if settings.static_membership else None,
            stream_buffer_maxsize=settings.buffered_batches_max,
            stream_wait_empty=False,
            topic_partitions=settings.partitions,
            topic_disable_leader=True,
            topic_allow_declare=False,
            table_standby_replicas=1,  # with none, Faust would not use the assignor below
            PartitionAssignor=BucketAssignor,
            **faust_settings,
        )
        self.source_topics = tuple(sources)
        for topic in self.source_topics:
            self._read_topic(topic)
        self.gate = BrokerGate(
            self,
            cluster,
            first=[self.fleet_topics.directory, self.fleet_topics.projections],
            learn=self._learn_generations,
            topics=self.required_topics,
        )
        self.on_partitions_revoked.connect(self._revoked)  # type: ignore[arg-type]
        self.on_partitions_assigned.connect(self._assigned)  # type: ignore[arg-type]

    def instrument(
        self, on_effect: OnEffect, clock: Callable[[Clock], Clock], stores: Callable[[StoreFactory], StoreFactory]
    ) -> None:
        """Let a test bed watch and disturb what the engine does, before it starts. Nothing in the product calls it."""
        self._on_effect, self._clock, self._stores = on_effect, clock(self._clock), stores(self._stores)

    def required_topics(self) -> list[str]:
        """Every topic that the role reads or writes."""
        topics = {*self.source_topics, *(topic for agent in self.fleet_agents for topic in agent.emits)}
        for agent in self.fleet_agents:
            topics.update(t.name for t in self.fleet_topics.of_agent(agent.name, logged=agent.logged))
        return sorted(topics)

    async def _learn_generations(self) -> None:
        await self.generations.load(self._cluster)
        self.fleet_agents = checked(self._agents_of(self.generations.standings))

    def _generations_changed(self) -> None:
        """A read model is being built anew, or its generations have changed places: serve what there is from now on."""
        self.fleet_agents = checked(self._agents_of(self.generations.standings))
        log.info("%s runs %s", self.fleet_settings.worker, ", ".join(agent.name for agent in self.fleet_agents))
        self.holdings.agents_changed()

    def _read_topic(self, topic: str) -> None:
        readers = [agent for agent in self.fleet_agents if topic in agent.sources]
        if len({agent.decode_of(topic) for agent in readers}) > 1:
            raise ConfigurationRefused(f"agents that read {topic} must share one decode: a batch is decoded once")

        async def dispatch(stream: Any) -> None:
            async for batch in stream:
                await self._submit(batch)

        dispatch.__doc__ = "; ".join(agent.help for agent in readers)
        self.agent(
            self.topic(topic, schema=BatchSchema(), acks=False), name=f"reading-{topic}", isolated_partitions=True
        )(dispatch)

    async def _submit(self, batch: Batch) -> None:
        pipeline = self.holdings.pipeline_of(batch.partition.partition)
        if pipeline is not None:
            await pipeline.submit(batch)

    def _new_transport(self) -> BatchTransport:
        return BatchTransport(self.conf.broker_consumer, self)

    # What others read

    def held_buckets(self) -> list[int]:
        """The buckets that are served here."""
        return self.holdings.held()

    def warm_buckets(self) -> list[int]:
        """The buckets whose rows are here besides."""
        return self.holdings.warm(self._stores)

    def lag_of(self, topic: str, partition: int, position: int) -> int | None:
        """How many records wait behind a position, as was known a second ago at most."""
        reach = self._reaches.get(TopicPartition(topic, partition))
        return None if reach is None else reach.lag(position)

    @property
    def refusals(self) -> list[str]:
        """Why pipelines stay closed until a person decides."""
        return [p.refusal for p in self.holdings.pipelines.values() if p.refusal is not None]

    # Rebalancing

    @property
    def _batch_consumer(self) -> BatchConsumer:
        return cast(BatchConsumer, self.consumer)

    async def _revoked(self, app: Any, revoked: Iterable[TP], **_: Any) -> None:
        """A rebalance begins: heartbeats stop until it ends, so do nothing slow here."""
        await self.holdings.suspend()

    async def _assigned(self, app: Any, assigned: Iterable[TP], **_: Any) -> None:
        mine = self.holdings.whole({TopicPartition(tp.topic, tp.partition) for tp in assigned}, self.source_topics)
        self.holdings.assign(mine, self.standing_by)
        first, self.assigned = not self.assigned, True
        self.brokers_heard = self._clock.monotonic()  # they have just let us into the group
        log.info(
            "%s serves buckets %s of %s, stands by for %s",
            self.fleet_settings.worker,
            sorted(mine),
            self.fleet_settings.role,
            sorted(self.standing_by - mine),
        )
        if first:
            self._begin_upkeep()

    def _begin_upkeep(self) -> None:
        """What is done from when buckets come here until the worker stops. `upkeep` has more of it, by name."""
        upkeep: dict[str, Work] = {
            "telling the group our positions": self._report_positions,
            "watching": self._watch,
            "mending": self._mend,
            "telling the time": self._tick,
            "following the directory": lambda: self.directory.follow(self._cluster),
            "following generations": lambda: self.generations.follow(self._cluster, self._generations_changed),
        }
        for name, work in (upkeep | self.upkeep).items():
            self._background.keep(name, work)

    def _world(self, bucket: int) -> World:
        return World(
            cluster=self._cluster,
            stores=self._stores,
            source=self,
            group_offset=self._group_offset,
            clock=self._clock,
            settings=self.fleet_settings,
            topics=self.fleet_topics,
            announcement=self.directory.announcement(bucket, [agent.name for agent in self.fleet_agents]),
            on_committed=self._committed,
            on_effect=self._on_effect,
            on_round=self._round_done,
        )

    async def seek(self, partition: TopicPartition, offset: int) -> int:
        """Fetch a source partition from `offset` on (see `SourceControl`)."""
        return await self._batch_consumer.thread.seek_epoch(partition, offset)

    async def _group_offset(self, partition: TopicPartition) -> int | None:
        return await self._batch_consumer.thread.group_offset(partition)

    def _committed(self, shard: Shard, rows: Rows) -> None:
        for listener in self.commit_listeners:
            listener(shard, rows)

    def _round_done(self, shard: Shard, rows: Rows, emitted: Sequence[Emitted]) -> None:
        for listener in self.round_listeners:
            listener(shard, rows, emitted)

    # In the background

    async def _report_positions(self) -> None:
        """Tell the consumer group where we are, every few seconds: for lag tools alone."""
        told: dict[TopicPartition, int] = {}
        while True:
            await asyncio.sleep(self.fleet_settings.group_offsets_interval)
            positions = self._positions(Pipeline.committed_positions)
            news = {source: at for source, at in positions.items() if told.get(source) != at}
            if news:
                try:
                    await self._batch_consumer.thread.commit_for_lag_tools(news)
                    told.update(news)
                except Exception as error:  # noqa: BLE001 - nothing depends on it; the next turn tries again
                    log.info("could not tell the group our positions: %r", error)

    async def _mend(self) -> None:
        """Every few seconds: try again what could not be opened, and remove what gone generations have left."""
        while True:
            await asyncio.sleep(MEND_EVERY_S)
            self.holdings.try_again()
            standings = self.generations.standings
            gone = [(name, Standing(live=number)) for name, one in standings.items() for number in one.gone]
            names = {agent.name for name, past in gone for agent in self._agents_of({**standings, name: past})}
            for name in names - {agent.name for agent in self.fleet_agents}:
                await asyncio.to_thread(self._stores.forget, name)

    async def _watch(self) -> None:
        """Every second: note that the loop turns, and how many records wait, for probes and metrics."""
        while True:
            self.pulse = self._clock.monotonic()
            try:
                reaches = await asyncio.wait_for(self._batch_consumer.thread.reaches(), WATCH_EVERY_S)
                self._reaches = reaches
                self._note_answers(reaches.values())
                positions = self._positions(Pipeline.source_positions)
                self.lag = {s: reaches[s].lag(at) for s, at in positions.items() if s in reaches}
                self.flow.note(positions, self.lag, self._clock.monotonic())
                since = self._clock.epoch_ms() - ANSWER_AGE_MS_MAX
                self.drained = frozenset(s for s, lag in self.lag.items() if not lag and reaches[s].answered_ms > since)
            except Exception as error:  # noqa: BLE001 - a figure for people; the next turn tries again
                self.drained = frozenset()
                log.debug("the lag is not known now: %r", error)
            await asyncio.sleep(WATCH_EVERY_S)

    def _note_answers(self, reaches: Iterable[Reach]) -> None:
        """Brokers are there while they answer fetches or rounds are committed: a full buffer stops the fetching."""
        signs = (
            max((reach.answered_ms for reach in reaches), default=0),
            sum(s.rounds for s in self.holdings.stats.values()),
        )
        if signs != self._signs_of_brokers:
            self._signs_of_brokers = signs
            self.brokers_heard = self._clock.monotonic()

    @property
    def brokers_silent_s(self) -> float:
        """For how long no broker has given a sign of life."""
        return self._clock.monotonic() - self.brokers_heard

    async def _tick(self) -> None:
        await tell_the_time(self.fleet_settings.brokers, self._clock, self.holdings.served_shards, lambda: self.drained)

    def _tell_standby(self, bucket: int, *, stands: bool) -> None:
        self._background.once(self._announce_standby(bucket, stands=stands))

    async def _announce_standby(self, bucket: int, *, stands: bool) -> None:
        """Tell the directory that stale answers are to be had here, or no more."""
        announcement = self.directory.announcement(bucket, [a.name for a in self.fleet_agents], standby=True)
        sender = RecordSender(self.fleet_settings.brokers)
        try:
            value = announcement.value(self._clock.epoch_ms()) if stands else None
            await sender.send(announcement.partition, announcement.key, value)
        except FleetError as error:
            log.info("the directory could not be told who stands by for bucket %d: %s", bucket, error)
        finally:
            await sender.close()

    def _positions(self, of: Callable[[Pipeline], Mapping[TopicPartition, int]]) -> Mapping[TopicPartition, int]:
        ready = [pipeline for pipeline in self.holdings.pipelines.values() if pipeline.ready]
        return {source: position for pipeline in ready for source, position in of(pipeline).items()}

    async def on_first_start(self) -> None:
        """Make the data directory: Faust makes its last part only."""
        self.fleet_settings.data_dir.mkdir(parents=True, exist_ok=True)
        await super().on_first_start()

    async def on_stop(self) -> None:
        """Finish the rounds under way, close every pipeline, leave the group; all within the deadline."""
        self._background.cancel()
        for task in await self.holdings.close():
            log.warning("a bucket did not close in time and is cut off: it is fenced by its next owner")
            task.cancel()
        self._leave_group()
        await super().on_stop()

    def _leave_group(self) -> None:
        """A static member sends no LeaveGroup, and its buckets would wait out the session: leave as a dynamic one."""
        thread = getattr(self._batch_consumer, "_thread", None)
        consumer = getattr(thread, "_consumer", None)
        coordinator = getattr(consumer, "_coordinator", None)
        if self.fleet_settings.leave_on_stop and coordinator is not None:
            coordinator._group_instance_id = None


def checked(agents: Sequence[Agent]) -> tuple[Agent, ...]:
    """The agents; refuses a catalogue in which two share a name: they would share a changelog."""
    names = [agent.name for agent in agents]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigurationRefused(f"agents need names of their own: {', '.join(repeated)}")
    return tuple(agents)
