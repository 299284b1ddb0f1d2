"""Exactly once, of agents that defend themselves against nothing: they count whatever they are given.

Deciders and projections drop repetitions by themselves and could hide a fault of the engine. These do not.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from app.runtime.agent import Agent
from app.runtime.ports import Record
from app.runtime.table import Table
from app.runtime.topics import Topic
from app.runtime.unit import UnitOfWork
from tests.property.lives import TOPICS, Lived, Town

IN, OUT = "in", "out"
COUNTS: Table[int] = Table("counts", int)
SUMS: Table[int] = Table("sums", int)


def count(unit: UnitOfWork, record: Record, _: bytes) -> None:
    """in → count by key → out."""
    key = record.key or b""
    number = (unit.get(COUNTS, key) or 0) + 1
    unit.put(COUNTS, key, number)
    unit.emit(OUT, key, str(number).encode())


def add(unit: UnitOfWork, record: Record, value: bytes) -> None:
    """out → sum by key."""
    key = record.key or b""
    unit.put(SUMS, key, (unit.get(SUMS, key) or 0) + int(value))


def value_of(record: Record) -> bytes:
    return record.value or b""


COUNTING = Agent("counting", (IN,), value_of, count, (COUNTS,), ahead=COUNTS, emits=(OUT,))
SUMMING = Agent("summing", (OUT,), value_of, add, (SUMS,))


def town() -> Town:
    own = [topic for agent in (COUNTING, SUMMING) for topic in TOPICS.of_agent(agent.name, logged=True)]
    return Town((COUNTING, SUMMING), [Topic(IN), Topic(OUT), *own])


def check(found: Lived, keys: list[str]) -> None:
    wanted = Counter(keys)
    emitted: dict[str, list[int]] = {}
    for records in found.records.values():
        for key, value in records:
            emitted.setdefault((key or b"").decode(), []).append(int(value or b"0"))
    assert emitted == {key: list(range(1, number + 1)) for key, number in wanted.items()}
    sums = {key: value for (agent, _), rows in found.rows.items() if agent == "summing" for key, value in rows.items()}
    assert {key.removeprefix(SUMS.prefix).decode(): SUMS.decode(raw) for key, raw in sums.items()} == {
        key: number * (number + 1) // 2 for key, number in wanted.items()
    }


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from("abcde"), min_size=1, max_size=40),
    st.lists(st.tuples(st.integers(1, 40), st.booleans(), st.integers(1, 5)), max_size=6),
    st.integers(0, 40),
)
def test_deaths_double_and_lose_nothing(keys: list[str], deaths: list[tuple[int, bool, int]], late: int) -> None:
    async def run() -> Lived:
        made = town()
        made.send(IN, [(key, b"x") for key in keys[:late]])
        for dies_at, disk_lost, batch in deaths:
            await made.live(dies_at=dies_at, disk_lost=disk_lost, batch=batch)
        made.send(IN, [(key, b"x") for key in keys[late:]])
        await made.live(batch=3)
        return await made.lived()

    check(asyncio.run(run()), keys)


def test_a_death_at_every_single_step() -> None:
    keys = list("abcabcaabbcc")

    async def run(dies_at: int) -> tuple[int, Lived]:
        made = town()
        made.send(IN, [(key, b"x") for key in keys])
        effects = await made.live(dies_at=dies_at, batch=2)
        return effects, await made.lived()

    last = 0
    for dies_at in range(1, 300):
        effects, found = asyncio.run(run(dies_at))
        check(found, keys)
        last = effects
        if effects < dies_at:
            break
    assert last > 30, "the lives were too short to prove anything"


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from("abc"), min_size=5, max_size=30),
    st.lists(st.tuples(st.sampled_from(["start", "produce", "commit"]), st.booleans(), st.integers(0, 4)), max_size=3),
)
def test_broker_faults_double_and_lose_nothing(keys: list[str], faults: list[tuple[str, bool, int]]) -> None:
    """A request fails, or its answer is lost though it was done: the pipeline cannot tell, and need not."""

    async def run() -> Lived:
        made = town()
        made.send(IN, [(key, b"x") for key in keys])
        for step, lost_ack, after in faults:
            made.cluster.fail_next(step, lost_ack=lost_ack, after=after)
        await made.live(batch=2)
        return await made.lived()

    check(asyncio.run(run()), keys)


async def test_jumping_consumer_is_sent_back() -> None:
    """After a rebalance a consumer may hand over records past a gap, or old ones again."""
    made = town()
    keys = list("aaaaaaaaaa")
    made.send(IN, [(key, b"x") for key in keys])
    await made.live(batch=2, jumps=(4, 1, 7))
    check(await made.lived(), keys)
