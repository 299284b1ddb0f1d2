"""Dead letters come back in order and once, whatever dies, repeats itself, fails again or comes in meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import assert_never

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from app.kernel.errors import UndecodableMessage
from app.runtime.agent import Agent, redrivable
from app.runtime.dead_letters import ALONE, Kind
from app.runtime.letter_box import LetterBox, LetterSequence
from app.runtime.parking import ALONE_ROWS, PARKED_ROWS
from app.runtime.ports import Record, TopicPartition
from app.runtime.redriving import Became, RedriveTakenOver, Redriving
from app.runtime.table import Table
from app.runtime.topics import REDRIVE, Topic
from app.runtime.unit import UnitOfWork
from tests.property.lives import PARTITIONS, TOPICS, Town

IN, OUT = "in", "out"
NOTES: Table[list[str]] = Table("notes", list[str])


@dataclass
class Release:
    """What the code that runs now cannot do. A new release can."""

    bugs: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)


RELEASE = Release()


def decode(record: Record) -> str:
    text = (record.value or b"").decode()
    if text in RELEASE.unknown:
        raise UndecodableMessage(f"{text} is of no known type")
    return text


def note(unit: UnitOfWork, record: Record, text: str) -> None:
    key = record.key or b""
    unit.put(NOTES, key, [*(unit.get(NOTES, key) or []), text])
    unit.emit(OUT, key, text.encode(), headers=record.headers)
    if text in RELEASE.bugs:
        raise ZeroDivisionError(f"cannot note {text}")


NOTING = redrivable(Agent("noting", (IN,), decode, note, (NOTES,), ahead=NOTES, emits=(OUT,)), TOPICS.redrive)
LETTERS = [TopicPartition(TOPICS.dead_letters("noting"), number) for number in range(PARTITIONS)]


@contextmanager
def releases() -> Iterator[Release]:
    """A first release; what is changed here counts from the next fold on."""
    RELEASE.bugs, RELEASE.unknown = set(), set()
    yield RELEASE
    RELEASE.bugs, RELEASE.unknown = set(), set()


def town() -> Town:
    own = TOPICS.of_agent("noting", logged=True)
    return Town((NOTING,), [Topic(IN), Topic(OUT), Topic(TOPICS.redrive, REDRIVE), *own])


async def pending(made: Town) -> list[LetterSequence]:
    async with made.cluster.reader() as reader:
        box = LetterBox(reader, dict.fromkeys(LETTERS, "noting"))
        await box.read_on()
        return box.sequences()


async def tell(made: Town, kind: Kind, *, letters_max: int = 1_000) -> None:
    """What `fleet deadletters` writes, without waiting for the answer."""
    async with made.cluster.reader() as reader:
        box = LetterBox(reader, dict.fromkeys(LETTERS, "noting"))
        await box.read_on()
        told = [one._replace(letters=one.letters[:letters_max]) for one in box.sequences()]
        if told:
            await redriving(made, box).send(kind, told)


def redriving(made: Town, box: LetterBox) -> Redriving:
    return Redriving(made.cluster, made.cluster.clock, TOPICS, box, {"noting": True})


async def notes(made: Town) -> dict[str, list[str]]:
    """The rows by key; what was emitted is the same."""
    lived = await made.lived()
    made.stores.crash()
    kept = [row for rows in lived.rows.values() for row in rows.items()]
    rows = {key.removeprefix(NOTES.prefix).decode(): NOTES.decode(raw) for key, raw in kept}
    emitted: dict[str, list[str]] = {}
    for records in lived.records.values():
        for key, value in records:
            emitted.setdefault((key or b"").decode(), []).append((value or b"").decode())
    assert emitted == rows
    return rows


def left_in_rows(made: Town) -> list[bytes]:
    made.stores.crash()
    stores = [made.stores("noting", number) for number in range(PARTITIONS)]
    return [key for store in stores for table in (PARKED_ROWS, ALONE_ROWS) for key, _ in store.scan(table.prefix)]


def in_order(sent: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, text in sent:
        found.setdefault(key, []).append(text)
    return found


def as_records(sent: Sequence[tuple[str, str]]) -> list[tuple[str, bytes]]:
    return [(key, text.encode()) for key, text in sent]


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


async def live_on(made: Town, times: int = 30) -> None:
    for _ in range(times):
        await made.live()


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
