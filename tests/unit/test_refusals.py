"""When a pipeline must not open: each case on a simulated Kafka, each with what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from aiokafka.errors import ProducerFenced

from app.kernel.errors import OpenRefused
from app.runtime import opening
from app.runtime.agent import Agent, redrivable
from app.runtime.opening import Opening, OpeningRules
from app.runtime.ports import LogBounds, Record, TopicPartition, TransactionalProducer
from app.runtime.refusals import check_adoption, check_group, check_position
from app.runtime.shard import Shard
from app.runtime.simulated import SimulatedClock, SimulatedCluster
from app.runtime.stats import Restoring
from app.runtime.table import Table
from app.runtime.topics import Topic, Topics
from app.runtime.unit import UnitOfWork
from tables.memory import MemoryStores
from tests.property.lives import Town

TOPICS = Topics()
COUNTS: Table[int] = Table("counts", int)
SOURCE = TopicPartition("in", 0)


def count(unit: UnitOfWork, record: Record, _: object) -> None:
    key = record.key or b""
    unit.put(COUNTS, key, (unit.get(COUNTS, key) or 0) + 1)


COUNTING = Agent("counting", ("in",), lambda record: record.value, count, (COUNTS,))


@pytest.fixture
async def town() -> Town:
    """A pipeline has folded ten records and was stopped. Its transactional id is that of the role `all`, bucket 0."""
    made = Town((COUNTING,), [Topic("in"), *TOPICS.of_agent("counting", logged=True)])
    made.cluster.append(SOURCE, *((b"k", b"v") for _ in range(10)))
    await made.live()
    return made


async def open_again(
    town: Town,
    *,
    transactional_id: str = "eventfleet-all-0",
    buckets: int = 1,
    adopt: frozenset[str] = frozenset(),
    accept_loss: frozenset[str] = frozenset(),
    group: Mapping[TopicPartition, int] | None = None,
) -> Shard:
    async def group_offset(partition: TopicPartition) -> int | None:
        return (group or {}).get(partition)

    town.stores.crash()
    producer: TransactionalProducer = town.cluster.producer(transactional_id)
    await producer.start()
    shard = Shard(COUNTING, 0)
    rules = OpeningRules(transactional_id, buckets, TOPICS, adopt, accept_loss)
    await Opening(town.cluster, town.stores, SimulatedClock(runs=True), rules, Restoring()).open(
        producer, [shard], group_offset
    )
    return shard


async def test_it_opens_where_nothing_has_changed(town: Town) -> None:
    shard = await open_again(town)
    assert shard.positions == {"in": 10}


async def test_a_source_that_was_made_again(town: Town) -> None:
    remake(town.cluster, "in")
    with pytest.raises(OpenRefused, match="in was deleted and made again"):
        await open_again(town)


async def test_a_changelog_that_was_made_again(town: Town) -> None:
    remake(town.cluster, "counting.changelog")
    with pytest.raises(OpenRefused, match="rows on this disk exist nowhere else"):
        await open_again(town)


async def test_records_that_retention_deleted_before_they_were_handled(town: Town) -> None:
    town.cluster.append(SOURCE, *((b"k", b"v") for _ in range(10)))
    town.cluster.log(SOURCE).delete_before(15)
    with pytest.raises(OpenRefused, match="FLEET_ACCEPT_LOSS=in"):
        await open_again(town)
    shard = await open_again(town, accept_loss=frozenset({"in"}))
    assert shard.positions == {"in": 15}


async def test_a_first_start_begins_where_the_source_begins() -> None:
    fresh = Town((COUNTING,), [Topic("in"), *TOPICS.of_agent("counting", logged=True)])
    fresh.cluster.append(SOURCE, *((b"k", b"v") for _ in range(10)))
    fresh.cluster.log(SOURCE).delete_before(4)
    assert (await open_again(fresh)).position("in") == 4


async def test_state_of_another_role(town: Town) -> None:
    with pytest.raises(OpenRefused, match="FLEET_ADOPT=eventfleet-all-0"):
        await open_again(town, transactional_id="eventfleet-other-0")


async def test_adopted_state_is_taken_over_once_and_the_older_owner_refuses(town: Town) -> None:
    adopting = frozenset({"eventfleet-all-0"})
    shard = await open_again(town, transactional_id="eventfleet-other-0", adopt=adopting)
    assert shard.positions == {"in": 10}
    assert (await open_again(town, transactional_id="eventfleet-other-0")).positions == {"in": 10}
    with pytest.raises(OpenRefused, match="FLEET_ADOPT=eventfleet-other-0"):
        await open_again(town)


async def test_the_older_owner_of_adopted_state_is_fenced(town: Town) -> None:
    older = town.cluster.producer("eventfleet-all-0")
    await older.start()
    await open_again(town, transactional_id="eventfleet-other-0", adopt=frozenset({"eventfleet-all-0"}))
    batch = older.new_batch()
    batch.append(b"k", b"v")
    with pytest.raises(ProducerFenced):
        await older.produce({TopicPartition("counting.changelog", 0): batch})


async def test_what_the_older_owner_wrote_until_it_was_fenced_is_adopted(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first restore tells only whose the state is: that one may be at work until it is fenced."""
    row = COUNTS.prefix + b"late", COUNTS.encode(1)

    def write_and_check(transactional_id: str, foreign: set[str], adopt: frozenset[str]) -> None:
        town.cluster.append(TopicPartition("counting.changelog", 0), row)
        check_adoption(transactional_id, foreign, adopt)

    monkeypatch.setattr(opening, "check_adoption", write_and_check)
    shard = await open_again(town, transactional_id="eventfleet-other-0", adopt=frozenset({"eventfleet-all-0"}))
    assert shard.opened().get(row[0]) == row[1]


async def test_another_number_of_buckets(town: Town) -> None:
    with pytest.raises(OpenRefused, match="FLEET_BUCKETS=1"):
        await open_again(town, buckets=2)


async def test_a_changelog_behind_what_the_group_was_told(town: Town) -> None:
    assert (await open_again(town, group={SOURCE: 10})).positions == {"in": 10}
    with pytest.raises(OpenRefused, match="the changelog has lost rows"):
        await open_again(town, group={SOURCE: 11})


def test_one_of_several_readers_behind_what_the_group_was_told() -> None:
    readers = [Shard(COUNTING, 0, positions={"in": 10}), Shard(COUNTING, 0, positions={"in": 9})]
    check_group(SOURCE, readers, 9, source_end=20)
    with pytest.raises(OpenRefused, match="restored position 9 of in/0 is behind the group's offset 10"):
        check_group(SOURCE, readers, 10, source_end=20)


def test_an_agent_that_an_older_release_knew_nothing_of_goes_on_where_a_person_says_so() -> None:
    """A new release had the bucket, then an older one, then the new one again: no row was lost, but nobody can tell."""
    older, new = Shard(COUNTING, 0, positions={"in": 9}), Shard(COUNTING, 0, positions={"in": 3})
    with pytest.raises(OpenRefused, match=r"older release .* FLEET_ACCEPT_LOSS=in"):
        check_group(SOURCE, [older, new], 9, source_end=9)
    check_group(SOURCE, [older, new], 9, source_end=9, accept_loss=frozenset({"in"}))
    assert (older.told, new.told) == ({}, {"in": 9})
    check_group(SOURCE, [older, new], 9, source_end=9)


def test_an_index_that_was_restored_to_an_old_end_is_no_evidence_of_lost_rows() -> None:
    """A deposed leader told where its source ends. It reads on; and an agent that is new beside it has lost nothing."""
    index = Shard(replace(COUNTING, name="indexing", logged=False), 0, positions={"in": 4})
    new = Shard(COUNTING, 0)
    check_group(SOURCE, [index, new], 7, source_end=7)
    assert new.told == {"in": 7}
    with pytest.raises(OpenRefused, match="behind the group's offset 7"):
        check_group(SOURCE, [index, new], 7, source_end=6)
    with pytest.raises(OpenRefused, match="behind the group's offset 7"):
        check_group(SOURCE, [Shard(COUNTING, 0)], 7, source_end=7)


async def test_a_source_that_ends_before_the_position(town: Town) -> None:
    shard = await open_again(town)
    store = shard.opened()
    lost = shard.meta({"in": 99}, 1, "eventfleet-all-0")
    town.cluster.append(TopicPartition("counting.changelog", 0), (b"\x00meta", lost))
    assert store.progress is not None
    with pytest.raises(OpenRefused, match="the topic has lost records"):
        await open_again(town)


def remake(cluster: SimulatedCluster, topic: str) -> None:
    cluster.delete_topic(topic)
    cluster.create_topics([Topic(topic)], 2)


def test_memory_stores_forget() -> None:
    stores = MemoryStores()
    stores("a", 0)
    stores.lose()
    assert stores("a", 0).progress is None


def test_a_shard_that_never_heard_of_redrives_hears_of_those_to_come_alone() -> None:
    """What lies there was told to whoever was before it."""
    agent = redrivable(COUNTING, TOPICS.redrive)
    shard = Shard(agent, 0)
    bounds = LogBounds(3, 9)
    check_position(shard, TOPICS.redrive, bounds, accept_loss=frozenset())
    check_position(shard, "in", bounds, accept_loss=frozenset())
    assert (shard.position(TOPICS.redrive), shard.position("in")) == (9, 3)
