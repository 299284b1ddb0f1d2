"""A chain's instances, record by record: each event once and in order, each timer once, and what they send."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import msgspec

from agents.chaining import chaining, command_topics
from agents.ordering import DUPLICATES_DROPPED, EVENTS_HELD_BACK
from app.kernel import Aggregate, Chain, Command, Envelope, Event, Step
from app.runtime.codec import Codec
from app.runtime.ports import Record
from app.runtime.simulated import SimulatedRecord
from app.runtime.topics import Topics
from tables.chains import TIMERS, Instance, instances_of
from tests.unit.one_partition import OnePartition

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
TOPICS = Topics()
PATIENCE = timedelta(seconds=60)


class Asked(Event, frozen=True):
    """A door was asked to open."""

    wire_name: ClassVar[str] = "door.asked.v1"
    door_id: str


class Opened(Event, frozen=True):
    """A door was opened: nobody needs to wait any more."""

    wire_name: ClassVar[str] = "door.opened.v1"
    door_id: str


class Rung(Event, frozen=True):
    """A bell was rung at a door."""

    wire_name: ClassVar[str] = "bell.rung.v1"
    bell_id: str
    door_id: str


class Knock(Command, frozen=True):
    """Knock at a door."""

    wire_name: ClassVar[str] = "door.knock.v1"
    door_id: str


class Ring(Command, frozen=True):
    """Ring a bell."""

    wire_name: ClassVar[str] = "bell.ring.v1"
    bell_id: str


class Heard(msgspec.Struct, frozen=True):
    """What an instance was told, in order."""

    words: tuple[str, ...] = ()

    def and_(self, word: str) -> Heard:
        return Heard((*self.words, word))


def at_the_door(state: int, command: Knock) -> list[Asked]:
    return [Asked(command.door_id)]


def door(state: int, event: Asked | Opened) -> int:
    return state + 1


def at_the_bell(state: int, command: Ring) -> list[Rung]:
    return [Rung(command.bell_id, "d")]


def bell(state: int, event: Rung) -> int:
    return state + 1


DOOR: Aggregate[Any, Any, Any] = Aggregate("door", 0, at_the_door, door)
BELL: Aggregate[Any, Any, Any] = Aggregate("bell", 0, at_the_bell, bell)


def whose(event: Event) -> str:
    assert isinstance(event, Asked | Opened | Rung)
    return event.door_id


def react(state: Heard, envelope: Envelope[Any]) -> Step[Heard]:
    match envelope.message:
        case Asked():
            return Step(state.and_(f"asked {envelope.version}"), timers={"answer": PATIENCE}, waiting_for="an answer")
        case Opened():
            heard = state.and_(f"opened {envelope.version}")
            return Step(heard, timers={"answer": None}, finished=True)
        case _:
            return Step(state.and_(f"rung {envelope.version}"), waiting_for="an answer")


def time_out(state: Heard, name: str) -> Step[Heard]:
    """Knock again, twice at most."""
    heard = state.and_("nobody")
    again = {"answer": PATIENCE} if heard.words.count("nobody") < 2 else {}
    return Step(heard, [Knock("d")], again, waiting_for="an answer")


WAITING_AT_DOORS = Chain("doors", Heard(), DOOR, (BELL,), whose, react, time_out)
CODEC = Codec.of_events(DOOR, BELL)
INSTANCES = instances_of(WAITING_AT_DOORS)


class Doorman(OnePartition):
    """The chain's agent."""

    def __init__(self) -> None:
        decoders = {category: lambda record: CODEC.decode(record.value) for category in ("doors", "bells")}
        super().__init__(chaining(WAITING_AT_DOORS, TOPICS, decoders, 1, command_topics((DOOR, BELL), TOPICS)))

    @property
    def instance(self) -> Instance[Heard]:
        """The only instance."""
        return self.rows(INSTANCES)[b"d"]

    def sent(self) -> list[str]:
        """The ids of the commands."""
        return [json.loads(one.value or b"")["id"] for one in self.emitted]


def home(event: Event, version: int) -> Record:
    return _record(TOPICS.events("doors"), Envelope(f"d.{version}", "d", BEGIN, event, version))


def brought(bell_id: str, version: int) -> Record:
    """An event of a bell, brought to the instance's partition."""
    ringing = Envelope(f"{bell_id}.{version}", bell_id, BEGIN, Rung(bell_id, "d"), version)
    return _record(TOPICS.inbox("doors"), ringing)


def tick(after: timedelta) -> Record:
    value = json.dumps({"time": (BEGIN + after).isoformat()}).encode()
    return SimulatedRecord(TOPICS.ticks("doors"), 0, 0, None, value, 1, ())


def _record(topic: str, envelope: Envelope[Any]) -> Record:
    return SimulatedRecord(topic, 0, 0, b"d", CODEC.encode(envelope, "/t"), 1, ())


def words(doorman: Doorman) -> Sequence[str]:
    return doorman.instance.state.words


def test_events_of_the_home_are_taken_in_order() -> None:
    doorman = Doorman()
    doorman.take(home(Opened("d"), 3), home(Asked("d"), 1))
    doorman.take(home(Asked("d"), 2))
    assert words(doorman) == ("asked 1", "asked 2", "opened 3")
    assert doorman.counts == {EVENTS_HELD_BACK: 1}


def test_events_that_are_brought_twice_are_taken_once_whatever_came_between() -> None:
    doorman = Doorman()
    doorman.take(home(Asked("d"), 1), brought("a", 4), brought("b", 1), brought("a", 4))
    doorman.take(brought("b", 1), brought("a", 3), brought("a", 9))
    assert words(doorman) == ("asked 1", "rung 4", "rung 1", "rung 9")
    assert doorman.counts == {DUPLICATES_DROPPED: 3}


def test_a_timer_that_is_cancelled_in_the_round_in_which_it_is_due_does_not_fire() -> None:
    doorman = Doorman()
    doorman.take(home(Asked("d"), 1))
    doorman.take(home(Opened("d"), 2), tick(PATIENCE))
    assert words(doorman) == ("asked 1", "opened 2")
    assert (doorman.sent(), doorman.rows(TIMERS), doorman.instance.timers) == ([], {}, {})


def test_a_timer_that_is_set_anew_in_the_round_in_which_it_was_due_fires_later() -> None:
    doorman = Doorman()
    doorman.take(home(Asked("d"), 1))
    later = Envelope("d.2", "d", BEGIN + PATIENCE, Asked("d"), 2)
    doorman.take(_record(TOPICS.events("doors"), later), tick(PATIENCE))
    assert (words(doorman), len(doorman.rows(TIMERS))) == (("asked 1", "asked 2"), 1)
    doorman.take(tick(2 * PATIENCE))
    assert words(doorman)[2:] == ("nobody",)


def test_a_timer_fires_once_and_is_gone() -> None:
    doorman = Doorman()
    doorman.take(home(Asked("d"), 1))
    doorman.take(tick(PATIENCE - timedelta(milliseconds=1)))
    assert words(doorman) == ("asked 1",)
    doorman.take(tick(PATIENCE), tick(PATIENCE))
    assert words(doorman) == ("asked 1", "nobody")
    doorman.take(tick(3 * PATIENCE))
    doorman.take(tick(4 * PATIENCE))
    assert words(doorman) == ("asked 1", "nobody", "nobody")
    assert (doorman.rows(TIMERS), doorman.instance.timers) == ({}, {})


def test_what_is_sent_each_time_a_timer_fires_has_an_id_of_its_own_and_a_replay_repeats_it() -> None:
    def sent() -> list[str]:
        doorman = Doorman()
        doorman.take(home(Asked("d"), 1))
        for n in (1, 2, 3):
            doorman.take(tick(n * PATIENCE))
        return doorman.sent()

    ids = sent()
    assert len(set(ids)) == len(ids) == 2
    assert sent() == ids
