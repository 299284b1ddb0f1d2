"""The guard of topics, and what an opening does with evidence that may be old."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from app.kernel.errors import OpenRefused
from app.runtime import guarding
from app.runtime.agent import Agent
from app.runtime.batch import Batch
from app.runtime.directory import Directory
from app.runtime.lifecycle import State
from app.runtime.opening import SOURCE_END_PATIENCE_S, Opening, OpeningRules
from app.runtime.pipeline import Pipeline
from app.runtime.ports import Record, TopicPartition
from app.runtime.settings import Settings
from app.runtime.shard import Shard
from app.runtime.simulated import SimulatedClock, SimulatedCluster, SimulatedSource
from app.runtime.stats import Restoring
from app.runtime.table import Table
from app.runtime.topics import Topic, Topics
from app.runtime.unit import UnitOfWork
from app.runtime.world import World
from tables.memory import MemoryStores

IN = TopicPartition("in", 0)
COUNTS: Table[int] = Table("counts", int)
TURNS_MAX = 2_000


def count(unit: UnitOfWork, record: Record, _: bytes) -> None:
    key = record.key or b""
    unit.put(COUNTS, key, (unit.get(COUNTS, key) or 0) + 1)


COUNTING = Agent("counting", ("in",), lambda record: record.value or b"", count, (COUNTS,))


class Town:
    """One agent, one partition, and a clock that runs."""

    def __init__(self) -> None:
        self.clock = SimulatedClock(runs=True)
        self.cluster = SimulatedCluster(self.clock)
        self.cluster.create_topics(
            [Topic("in"), Topic(Topics().directory), *Topics().of_agent("counting", logged=True)]
        )
        self.stores = MemoryStores()
        self.told: dict[TopicPartition, int] = {}
        self.source = SimulatedSource(self.cluster, [IN])
        self.shard = Shard(COUNTING, 0)
        settings = Settings(partitions=1, buckets=1, settle_ms=0, rounds_per_s_max=1e9)
        announcement = Directory(settings, Topics()).announcement(0, ["counting"])
        self.pipeline = Pipeline(
            0,
            [self.shard],
            World(
                self.cluster,
                self.stores,
                self.source,
                self.group_offset,
                self.clock,
                settings,
                Topics(),
                announcement,
            ),
        )

    async def group_offset(self, partition: TopicPartition) -> int | None:
        return self.told.get(partition)

    async def until(self, state: State) -> None:
        for _ in range(TURNS_MAX):
            if self.pipeline.state is state:
                return
            await asyncio.sleep(0)
        raise AssertionError(f"{self.pipeline!r} does not become {state}")

    async def end(self, running: asyncio.Task[None]) -> None:
        self.pipeline.close()
        await running


async def test_what_is_fetched_right_behind_the_first_seek_is_folded() -> None:
    """It came while the pipeline was not yet running, was dropped, and nobody asked for it again."""
    town = Town()
    town.cluster.append(IN, (b"k", b"v"))
    submitted: list[asyncio.Task[None]] = []

    def fetch(effect: str) -> None:
        if effect == "seek":
            asyncio.get_running_loop().call_soon(lambda: submitted.extend(map(submit, town.source.fetch_all())))

    def submit(batch: Batch) -> asyncio.Task[None]:
        return asyncio.create_task(town.pipeline.submit(batch))

    town.cluster.on_effect = fetch
    running = asyncio.create_task(town.pipeline.run())
    for _ in range(TURNS_MAX):
        if town.shard.position("in") == 1:
            break
        await asyncio.sleep(0)
    assert town.shard.position("in") == 1
    assert len(submitted) == 1
    await town.end(running)


@pytest.mark.parametrize("topic", ["in", "counting.changelog"])
async def test_a_topic_that_is_made_again_while_it_is_in_use_is_refused(
    topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guarding, "LOOK_EVERY_S", 0.0)
    town = Town()
    town.cluster.append(IN, (b"k", b"v"))
    running = asyncio.create_task(town.pipeline.run())
    await town.until(State.RUNNING)
    for _ in range(TURNS_MAX):
        await asyncio.gather(*map(town.pipeline.submit, town.source.fetch_all()))
        if town.shard.position("in") == 1:
            break
    town.cluster.delete_topic(topic)
    town.cluster.create_topics([topic])
    await town.until(State.REFUSED)
    assert "deleted and made again" in (town.pipeline.refusal or "")
    await town.end(running)


async def test_the_group_is_told_of_what_was_committed_and_of_no_beginning() -> None:
    """What it is told is held against the next opening, whose changelog would know nothing of it."""
    town = Town()
    town.cluster.append(IN, *((b"k", b"v") for _ in range(7)))
    town.cluster.log(IN).delete_before(5)
    running = asyncio.create_task(town.pipeline.run())
    await town.until(State.RUNNING)
    assert (town.pipeline.source_positions(), town.pipeline.committed_positions()) == ({IN: 5}, {})
    for _ in range(TURNS_MAX):
        await asyncio.gather(*map(town.pipeline.submit, town.source.fetch_all()))
        if town.shard.position("in") == 7:
            break
    assert town.pipeline.committed_positions() == {IN: 7}
    await town.end(running)


async def test_what_is_handed_over_is_open_and_a_moment_old() -> None:
    town = Town()
    running = asyncio.create_task(town.pipeline.run())
    await town.until(State.RUNNING)
    assert (town.shard.restored, town.shard.warm) == (True, False)
    town.pipeline.close(hand_over=True)
    await running
    assert (town.shard.restored, town.shard.warm, town.shard.store is not None) == (False, True, True)


async def test_a_guard_that_was_not_answered_looks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarding, "LOOK_EVERY_S", 0.0)
    town = Town()
    running = asyncio.create_task(town.pipeline.run())
    await town.until(State.RUNNING)
    town.cluster.fail_next("topic_ids", times=3)
    await asyncio.sleep(0)
    town.cluster.delete_topic("counting.changelog")
    town.cluster.create_topics(["counting.changelog"])
    await town.until(State.RECOVERING)
    await town.end(running)


async def test_a_sleeper_that_a_rebalance_leaves_its_bucket_notices_who_had_it_meanwhile() -> None:
    """Until the next record came it served the rows of before, and the directory named the other one."""
    town = Town()
    running = asyncio.create_task(town.pipeline.run())
    await town.until(State.RUNNING)
    other = town.cluster.producer(town.pipeline.transactional_id)
    await other.start()
    assert await town.pipeline.suspend(1.0)
    town.pipeline.resume()
    await town.until(State.RECOVERING)
    await town.until(State.RUNNING)
    await town.end(running)


async def _opened(town: Town, told: int) -> Opening:
    rules = OpeningRules("id", 1, Topics())
    opening = Opening(town.cluster, town.stores, town.clock, rules, Restoring())
    town.told[IN] = told
    return opening


async def test_a_zombie_does_not_refuse_for_what_its_successor_has_told_the_group() -> None:
    """It restored, stood still, and then compared its old positions with the group's new ones."""
    town = Town()
    zombie, owner = town.cluster.producer("id"), town.cluster.producer("id")
    await zombie.start()
    opening = await _opened(town, told=7)

    async def group_offset(partition: TopicPartition) -> int | None:
        await owner.start()
        return 7

    with pytest.raises(Exception, match="Fenced") as caught:
        await opening.open(zombie, [town.shard], group_offset)
    assert not isinstance(caught.value, OpenRefused)


async def test_an_owner_refuses_what_is_behind_the_group() -> None:
    town = Town()
    owner = town.cluster.producer("id")
    await owner.start()
    opening = await _opened(town, told=7)
    with pytest.raises(OpenRefused, match="behind the group"):
        await opening.open(owner, [town.shard], town.group_offset)


async def _stand_at(town: Town, position: int) -> None:
    """Let the changelog say that the source was folded up to `position`."""
    ids = town.cluster.ids_of(["in"])
    town.shard.source_ids = ids
    meta = town.shard.meta({"in": position}, 1, "id")
    town.cluster.append(TopicPartition("counting.changelog", 0), (b"\x00meta", meta))


async def test_the_old_end_of_a_deposed_leader_is_asked_for_again() -> None:
    town = Town()
    town.cluster.append(IN, (b"k", b"v"))
    town.cluster.depose_leader(IN, requests=3)
    town.cluster.append(IN, (b"k", b"v"))
    await _stand_at(town, 2)
    owner = town.cluster.producer("id")
    await owner.start()
    await (await _opened(town, told=0)).open(owner, [town.shard], town.group_offset)
    assert town.shard.position("in") == 2


async def test_a_source_that_goes_on_ending_before_the_position_is_refused() -> None:
    town = Town()
    town.cluster.append(IN, (b"k", b"v"))
    await _stand_at(town, 2)
    owner, began_s = town.cluster.producer("id"), town.clock.monotonic()
    await owner.start()
    with pytest.raises(OpenRefused, match="has lost records"):
        await (await _opened(town, told=0)).open(owner, [town.shard], town.group_offset)
    assert town.clock.monotonic() - began_s >= SOURCE_END_PATIENCE_S


async def test_an_agent_that_is_new_beside_others_may_stop_before_it_has_come_as_far() -> None:
    """What the others had told the group when it came does not mean that it has lost rows."""
    town = Town()
    town.cluster.create_topics(Topics().of_agent("older", logged=True))
    town.cluster.append(IN, *[(b"k", b"v")] * 8)
    older = Shard(dataclasses.replace(COUNTING, name="older"), 0)
    older.source_ids = town.cluster.ids_of(["in"])
    town.cluster.append(TopicPartition("older.changelog", 0), (b"\x00meta", older.meta({"in": 8}, 1, "id")))
    owner = town.cluster.producer("id")
    await owner.start()
    await (await _opened(town, told=8)).open(owner, [older, town.shard], town.group_offset)
    meta = town.shard.meta({"in": 3}, 1, "id")
    town.cluster.append(TopicPartition("counting.changelog", 0), (b"\x00meta", meta))
    for shard in (older, town.shard):
        shard.release()
    await (await _opened(town, told=8)).open(owner, [older, town.shard], town.group_offset)
    assert (older.position("in"), town.shard.position("in")) == (8, 3)
    older.release()
    town.shard.release()
    with pytest.raises(OpenRefused, match="behind the group"):
        await (await _opened(town, told=9)).open(owner, [older, town.shard], town.group_offset)


async def test_who_serves_is_told_before_the_first_round() -> None:
    """Readers of the directory see it at once: it does not wait for a transaction that comes with the first event."""
    town = Town()
    running = asyncio.create_task(town.pipeline.run())
    await town.until(State.RUNNING)
    directory = TopicPartition(Topics().directory, 0)
    assert len(town.cluster.records(directory)) == 1
    async with town.cluster.reader() as reader:
        assert (await reader.bounds([directory]))[directory].end > 0
        chunks = [chunk async for chunk in reader.read({directory: 0}, {directory: 1})]
    assert [record.key for chunk in chunks for record in chunk.records] == [b"all/0"]
    await town.end(running)


async def test_who_hands_a_batch_to_a_pipeline_that_does_not_run_is_let_go() -> None:
    """It will be fetched again once the pipeline runs. Waiting, it would hold up the consumer, and a rebalance."""
    town = Town()
    batch = Batch(IN, [], 0, 0, 1)
    await asyncio.wait_for(town.pipeline.submit(batch), 5.0)
    running = asyncio.create_task(town.pipeline.run())
    await town.until(State.RUNNING)
    await town.pipeline.suspend(1.0)
    await asyncio.wait_for(town.pipeline.submit(batch), 5.0)
    assert town.pipeline.stats.batches_dropped == 2
    await town.end(running)
