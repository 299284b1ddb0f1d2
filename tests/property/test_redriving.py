"""Dead letters come back in order and once, whatever dies, repeats itself, fails again or comes in meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import assert_never

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from app.runtime.dead_letters import ALONE, Kind
from app.runtime.ports import TopicPartition
from tests.property.lives import TOPICS
from tests.property.redriven import (
    IN,
    as_records,
    in_order,
    left_in_rows,
    notes,
    pending,
    releases,
    tell,
    town,
)


async def test_a_sequence_comes_back_in_order_once_the_bug_is_mended() -> None:
    with releases() as release:
        release.bugs = {"a2"}
        made = town()
        sent = [("a", "a1"), ("a", "a2"), ("b", "b1"), ("a", "a3"), ("b", "b2")]
        made.send(IN, as_records(sent))
        await made.live()
        assert await notes(made) == {"a": ["a1"], "b": ["b1", "b2"]}, "one poisoned key stops no other"
        (waiting,) = await pending(made)
        assert (waiting.key, [one.letter.cause for one in waiting.letters]) == (b"a", ["raised", "parked"])
        release.bugs = set()
        await tell(made, Kind.FOLD)
        made.send(IN, as_records([("a", "a4")]))
        await made.live()
        assert await notes(made) == {"a": ["a1", "a2", "a3", "a4"], "b": ["b1", "b2"]}
        assert not await pending(made)
        assert not left_in_rows(made)


async def test_one_that_fails_again_keeps_its_place_before_the_rest() -> None:
    with releases() as release:
        release.bugs = {"a2", "a3"}
        made = town()
        made.send(IN, as_records([("a", "a1"), ("a", "a2"), ("a", "a3"), ("a", "a4")]))
        await made.live()
        release.bugs = {"a3"}
        await tell(made, Kind.FOLD)
        made.send(IN, as_records([("a", "a5")]))
        await made.live()
        assert await notes(made) == {"a": ["a1", "a2"]}
        (waiting,) = await pending(made)
        told = [(one.letter.number, one.letter.attempt, one.letter.cause) for one in waiting.letters]
        assert told == [(2, 2, "raised"), (3, 1, "parked"), (4, 1, "parked")]
        release.bugs = set()
        await tell(made, Kind.FOLD)
        await made.live()
        assert await notes(made) == {"a": ["a1", "a2", "a3", "a4", "a5"]}
        assert not left_in_rows(made)


async def test_a_sequence_that_is_told_twice_is_folded_once() -> None:
    with releases() as release:
        release.bugs = {"a1"}
        made = town()
        made.send(IN, as_records([("a", "a1"), ("a", "a2")]))
        await made.live()
        release.bugs = set()
        await tell(made, Kind.FOLD)
        await tell(made, Kind.FOLD)
        await made.live()
        await made.live()
        assert await notes(made) == {"a": ["a1", "a2"]}


async def test_what_is_discarded_is_gone_and_the_key_goes_on() -> None:
    with releases() as release:
        release.bugs = {"a1"}
        made = town()
        made.send(IN, as_records([("a", "a1"), ("a", "a2")]))
        await made.live()
        await tell(made, Kind.DISCARD, letters_max=1)
        await tell(made, Kind.FOLD)
        await made.live()
        made.send(IN, as_records([("a", "a3")]))
        await made.live()
        assert await notes(made) == {"a": ["a2", "a3"]}
        assert not left_in_rows(made)


async def test_what_is_no_message_lies_alone_and_comes_back_alone() -> None:
    with releases() as release:
        release.unknown = {"a1", "b1"}
        made = town()
        made.send(IN, as_records([("a", "a1"), ("a", "a2"), ("b", "b1")]))
        await made.live()
        assert await notes(made) == {"a": ["a2"]}
        assert [(one.key, one.letters[0].letter.number) for one in await pending(made)] == [
            (b"a", ALONE),
            (b"b", ALONE),
        ]
        release.unknown = {"b1"}
        await tell(made, Kind.FOLD)
        await tell(made, Kind.FOLD)
        await made.live()
        assert await notes(made) == {"a": ["a2", "a1"]}
        (waiting,) = await pending(made)
        assert (waiting.key, waiting.letters[0].letter.attempt) == (b"b", 2)


async def test_one_that_lay_alone_waits_behind_a_key_that_is_parked_meanwhile() -> None:
    with releases() as release:
        release.unknown, release.bugs = {"a1"}, {"a2"}
        made = town()
        made.send(IN, as_records([("a", "a1"), ("a", "a2"), ("a", "a3")]))
        await made.live()
        release.unknown = set()
        await tell(made, Kind.FOLD)
        await made.live()
        (waiting,) = await pending(made)
        assert [one.letter.cause for one in waiting.letters] == ["raised", "parked", "parked"]
        release.bugs = set()
        await tell(made, Kind.FOLD)
        await made.live()
        assert await notes(made) == {"a": ["a2", "a3", "a1"]}
        assert not left_in_rows(made)


@dataclass(frozen=True)
class Send:
    keys: str


@dataclass(frozen=True)
class Live:
    dies_at: int
    disk_lost: bool
    batch: int


@dataclass(frozen=True)
class Redrive:
    letters_max: int


@dataclass(frozen=True)
class NewRelease:
    which: int


Step = Send | Live | Redrive | NewRelease

STEPS: st.SearchStrategy[Step] = st.one_of(
    st.builds(Send, st.text("abc", min_size=1, max_size=6)),
    st.builds(Live, st.integers(1, 60), st.booleans(), st.integers(1, 5)),
    st.builds(Redrive, st.integers(1, 4)),
    st.builds(NewRelease, st.integers(0, 7)),
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, max_size=12), st.integers(1, 7))
@example([NewRelease(0), Send("aaa"), Live(60, False, 5), Redrive(4), Redrive(4), Live(9, True, 1)], 7)
def test_every_key_ends_up_in_order_whatever_happens(steps: list[Step], buggy: int) -> None:
    """Deaths between any two steps, redrives told twice or in part, releases that mend some and break others."""

    async def run() -> None:
        with releases() as release:
            made = town()
            sent: list[tuple[str, str]] = []
            for step in steps:
                match step:
                    case Send(keys):
                        news = [(key, f"{key}{len(sent) + at}") for at, key in enumerate(keys)]
                        sent += news
                        made.send(IN, as_records(news))
                    case Live(dies_at, disk_lost, batch):
                        await made.live(dies_at=dies_at, disk_lost=disk_lost, batch=batch)
                    case Redrive(letters_max):
                        await tell(made, Kind.FOLD, letters_max=letters_max)
                    case NewRelease(which):
                        release.bugs = {
                            f"{key}{at}" for at in range(60) for key in "abc" if (at * buggy + which) % 8 < 3
                        }
                    case _:
                        assert_never(step)
            release.bugs = set()
            for _ in range(len(sent) + 1):
                await made.live(batch=3)
                if not await pending(made):
                    break
                await tell(made, Kind.FOLD)
            await made.live()
            assert await notes(made) == in_order(sent)
            assert not left_in_rows(made)

    asyncio.run(run())


@pytest.mark.long
def test_a_death_at_every_single_step_of_a_redrive() -> None:
    sent = [(key, f"{key}{number}") for number in range(4) for key in "abc"]

    async def run(dies_at: int, disk_lost: bool) -> int:
        with releases() as release:
            release.bugs = {"a1", "b0"}
            made = town()
            made.send(IN, as_records(sent[:6]))
            await made.live()
            await tell(made, Kind.FOLD)
            release.bugs = {"b1"}
            made.send(IN, as_records(sent[6:]))
            effects = await made.live(dies_at=dies_at, batch=2)
            release.bugs = set()
            for _ in range(4):
                await made.live(disk_lost=disk_lost)
                await tell(made, Kind.FOLD)
            assert await notes(made) == in_order(sent)
            assert not left_in_rows(made)
            return effects

    for dies_at in range(1, 200):
        if asyncio.run(run(dies_at, disk_lost=dies_at % 2 == 0)) < dies_at:
            break
    assert dies_at > 15, "the lives were too short to prove anything"


@pytest.mark.parametrize("value", [b"", b"garbage", None])
async def test_garbage_in_the_redrive_topic_concerns_nobody(value: bytes | None) -> None:
    with releases():
        made = town()
        made.cluster.append(TopicPartition(TOPICS.redrive, 0), (b"a", value), (b"a", value, [("instruction", b"fold")]))
        made.send(IN, as_records([("a", "a1")]))
        await made.live()
        assert await notes(made) == {"a": ["a1"]}
