"""A round's plan: what is new to which shard, and what is refused; and what is written when it is committed."""

from __future__ import annotations

from app.runtime.agent import Agent
from app.runtime.batch import Batch
from app.runtime.ports import Progress, Record, TopicPartition
from app.runtime.rounds import Plan, Terms, fold_plan, plan_round, write_round
from app.runtime.shard import Shard
from app.runtime.simulated import SimulatedClock, SimulatedCluster, SimulatedRecord
from app.runtime.table import Table
from app.runtime.topics import Topics
from app.runtime.unit import UnitOfWork
from tables.memory import MemoryStores

IN = TopicPartition("in", 0)
COUNTS: Table[int] = Table("counts", int)
TERMS = Terms(Topics(), 1, "id")


def count(unit: UnitOfWork, record: Record, _: object) -> None:
    key = record.key or b""
    unit.put(COUNTS, key, (unit.get(COUNTS, key) or 0) + 1)


def agent(name: str, *, logged: bool = True) -> Agent:
    return Agent(name, ("in",), lambda record: record.value, count, (COUNTS,), logged=logged)


def shard(name: str = "counting", position: int = 0, *, logged: bool = True) -> Shard:
    return Shard(agent(name, logged=logged), 0, MemoryStores()(name, 0), "log", positions={"in": position})


def batch(start: int, end: int) -> Batch:
    records = [SimulatedRecord("in", 0, offset, b"k", b"v", 0, ()) for offset in range(start, end)]
    return Batch(IN, records, 0, start, end)


def planned(plan: Plan, of: Shard) -> tuple[list[tuple[int, int]], int | None]:
    """From where to where each piece is new to the shard, and where it will stand."""
    pieces = [(position, batch.end) for batch, position in plan.pieces.get(of, [])]
    return pieces, plan.ends.get(of, {}).get("in")


def test_batches_of_one_round_follow_each_other() -> None:
    one = shard()
    plan = plan_round([(batch(0, 3), None), (batch(3, 5), None)], {IN: [one]})
    assert planned(plan, one) == ([(0, 3), (3, 5)], 5)
    assert not plan.gaps


def test_a_batch_that_comes_twice_in_a_round_is_new_once() -> None:
    one = shard()
    plan = plan_round([(batch(0, 3), None), (batch(0, 3), None), (batch(1, 4), None)], {IN: [one]})
    assert planned(plan, one) == ([(0, 3), (3, 4)], 4)


def test_a_batch_behind_a_gap_is_refused_by_those_alone_who_lack_what_is_before() -> None:
    behind, ahead = shard("behind", 2), shard("ahead", 3)
    plan = plan_round([(batch(3, 5), None)], {IN: [behind, ahead]})
    assert (planned(plan, behind), planned(plan, ahead)) == (([], None), ([(3, 5)], 5))
    assert plan.gaps == {IN}


def test_who_catches_up_is_passed_by_and_has_batches_of_its_own() -> None:
    joined, behind = shard("joined", 5), shard("behind")
    behind.joined = False
    readers = {IN: [joined, behind]}
    plan = plan_round([(batch(0, 6), None)], readers)
    assert (planned(plan, joined), planned(plan, behind)) == (([(5, 6)], 6), ([], None))
    assert not plan_round([(batch(5, 6), None)], readers).gaps
    plan = plan_round([(batch(0, 6), behind)], readers)
    assert (planned(plan, joined), planned(plan, behind)) == (([], None), ([(0, 6)], 6))


def test_what_is_written_says_how_far_it_reflects_its_log_and_when() -> None:
    logged, unlogged = shard(), shard("indexing", logged=False)
    plan = plan_round([(batch(0, 3), None)], {IN: [logged, unlogged]})
    cluster = SimulatedCluster(SimulatedClock())
    folded = fold_plan(plan, TERMS, cluster.producer("id").new_batch)
    ends = {TopicPartition(Topics().changelog("counting"), 0): 17}
    assert list(write_round(plan, folded, TERMS, ends, now_ms=1_234)) == [logged, unlogged]
    assert logged.opened().progress == Progress(17, "log", 1_234)
    assert unlogged.opened().progress == Progress(3, "log", 1_234)
    assert (logged.position("in"), unlogged.position("in")) == (3, 3)


def test_keys_are_parked_and_freed_when_the_round_is_written() -> None:
    one = shard()
    one.parked = {b"freed", b"still"}
    plan = plan_round([(batch(0, 1), None)], {IN: [one]})
    folded = fold_plan(plan, TERMS, SimulatedCluster(SimulatedClock()).producer("id").new_batch)
    folded.parts[one].parked, folded.parts[one].unparked = frozenset({b"new"}), frozenset({b"freed"})
    assert one.parked == {b"freed", b"still"}
    list(write_round(plan, folded, TERMS, {TopicPartition(Topics().changelog("counting"), 0): 1}, now_ms=1))
    assert one.parked == {b"new", b"still"}
