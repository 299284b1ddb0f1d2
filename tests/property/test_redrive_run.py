"""Redriving as `fleet deadletters` does it: whole sequences, pass by pass, and waiting for the answers."""

from __future__ import annotations

import asyncio

import pytest

from app.runtime.dead_letters import Kind
from app.runtime.letter_box import LetterBox
from app.runtime.redriving import Became, RedriveTakenOver, Redriving
from tests.property.lives import TOPICS, Town
from tests.property.redriven import (
    IN,
    LETTERS,
    as_records,
    in_order,
    left_in_rows,
    live_on,
    notes,
    pending,
    redriving,
    releases,
    tell,
    town,
)


async def test_a_redrive_waits_for_the_answer_and_takes_what_came_meanwhile() -> None:
    with releases() as release:
        release.bugs = {"a1", "c2"}
        made = town()
        made.send(IN, as_records([("a", "a1"), ("c", "c1"), ("c", "c2")]))
        await made.live()
        release.bugs = {"c2"}

        async def redrive() -> list[Became]:
            async with made.cluster.reader() as reader:
                box = LetterBox(reader, dict.fromkeys(LETTERS, "noting"))
                await box.read_on()
                made.send(IN, as_records([("a", "a2"), ("a", "a3")]))
                return await redriving(made, box).run(Kind.FOLD, box.sequences(), wait_s=1e6)

        told, _ = await asyncio.gather(redrive(), live_on(made))
        by_key = {one.sequence.key: one for one in told}
        assert (by_key[b"a"].failed, by_key[b"a"].left, by_key[b"a"].answered) == (None, 0, True)
        failed = by_key[b"c"].failed
        assert failed is not None
        assert (failed.attempt, failed.detail, by_key[b"c"].left) == (2, "ZeroDivisionError: cannot note c2", 1)
        assert await notes(made) == {"a": ["a1", "a2", "a3"], "c": ["c1"]}


async def test_a_redrive_that_nobody_answers_says_so() -> None:
    with releases() as release:
        release.bugs = {"a1"}
        made = town()
        made.send(IN, as_records([("a", "a1")]))
        await made.live()
        async with made.cluster.reader() as reader:
            box = LetterBox(reader, dict.fromkeys(LETTERS, "noting"))
            await box.read_on()
            (told,) = await redriving(made, box).run(Kind.FOLD, box.sequences(), wait_s=2.0)
        assert (told.answered, told.settled, told.left) == (False, 0, 1)


async def test_of_two_redrives_at_once_the_later_one_fences_the_earlier() -> None:
    with releases() as release:
        release.bugs = {"a1"}
        made = town()
        made.send(IN, as_records([("a", "a1")]))
        await made.live()
        results = await asyncio.gather(tell(made, Kind.FOLD), tell(made, Kind.FOLD), return_exceptions=True)
        assert any(isinstance(one, RedriveTakenOver) for one in results)
        release.bugs = set()
        await made.live()
        assert await notes(made) == {"a": ["a1"]}


async def run_beside(made: Town, kind: Kind, *, only_first: bool = False) -> list[Became]:
    """A redrive that waits for its answers, beside a worker that lives on."""

    async def redrive() -> list[Became]:
        async with made.cluster.reader() as reader:
            box = LetterBox(reader, dict.fromkeys(LETTERS, "noting"))
            await box.read_on()
            return await redriving(made, box).run(kind, box.sequences(), wait_s=1e6, only_first=only_first)

    told, _ = await asyncio.gather(redrive(), live_on(made))
    return told


async def test_a_long_sequence_takes_several_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.runtime.redriving.LETTERS_PER_PASS", 3)
    with releases() as release:
        release.bugs = {"a0"}
        made, sent = town(), [("a", f"a{number}") for number in range(11)]
        made.send(IN, as_records(sent))
        await made.live()
        release.bugs = set()
        (told,) = await run_beside(made, Kind.FOLD)
        assert (told.settled, told.left, told.failed) == (11, 0, None)
        assert await notes(made) == in_order(sent)


async def test_only_the_first_letter_is_given_up_where_only_that_was_asked_for() -> None:
    with releases() as release:
        release.bugs = {"a0", "b0"}
        made = town()
        made.send(IN, as_records([("a", "a0"), ("a", "a1"), ("b", "b0")]))
        await made.live()
        told = await run_beside(made, Kind.DISCARD, only_first=True)
        assert sorted((one.sequence.key, one.settled, one.left) for one in told) == [(b"a", 1, 1), (b"b", 1, 0)]
        await run_beside(made, Kind.FOLD)
        assert await notes(made) == {"a": ["a1"]}
        assert not left_in_rows(made)


async def test_letters_of_an_agent_without_a_changelog_are_settled_without_asking_it() -> None:
    with releases() as release:
        release.bugs = {"a0"}
        made = town()
        made.send(IN, as_records([("a", "a0"), ("a", "a1")]))
        await made.live()
        async with made.cluster.reader() as reader:
            box = LetterBox(reader, dict.fromkeys(LETTERS, "noting"))
            await box.read_on()
            mail = Redriving(made.cluster, made.cluster.clock, TOPICS, box, {"noting": False})
            (told,) = await mail.run(Kind.DISCARD, box.sequences(), wait_s=1.0)
        assert (told.settled, told.left, told.answered) == (2, 0, True)
        assert not await pending(made)
