"""Read models, record by record: rows of lists move, and each generation folds what was brought there for it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import msgspec

from agents.projecting import projecting
from app.kernel import Envelope, Event, Listing, Projection
from app.runtime.agent import Agent
from app.runtime.codec import Codec
from app.runtime.generations import Standing
from app.runtime.ports import Header, Record
from app.runtime.simulated import SimulatedRecord
from app.runtime.topics import Topics
from tables.read_models import PLACES, list_key, place_in, read_model_of
from tests.unit.one_partition import OnePartition

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
TOPICS = Topics()


class Moved(Event, frozen=True):
    """A meeting was put at another hour, or (before the first) given up."""

    wire_name: ClassVar[str] = "meeting.moved.v1"
    meeting_id: str
    room: str
    hour: int


CODEC = Codec([Moved])


class Entry(msgspec.Struct, frozen=True):
    """A meeting in the list of its room."""

    at: datetime


def project(row: Entry | None, envelope: Envelope[Moved]) -> Entry | None:
    hour = envelope.message.hour
    return None if hour < 0 else Entry(BEGIN + timedelta(hours=hour))


LISTING: Listing[Entry] = Listing(
    item=lambda envelope: envelope.stream_id, at=lambda row: row.at, path="/rooms/{id}/meetings"
)
MEETINGS: Projection[Entry] = Projection(
    "meetings", "meetings", Entry, project, key=lambda envelope: envelope.message.room, listing=LISTING
)
ROWS = read_model_of(MEETINGS)


def decode(record: Record) -> Envelope[Moved]:
    return CODEC.decode(record.value)


def agents(standing: Standing = Standing()) -> list[Agent]:  # noqa: B008 - it is frozen
    return projecting(MEETINGS, TOPICS, decode, 1, standing)


def moved(id_: str, version: int, hour: int, topic: str, headers: Sequence[Header] = ()) -> Record:
    envelope = Envelope(f"{id_}.{version}", id_, BEGIN, Moved(id_, "blue", hour), version)
    return SimulatedRecord(topic, 0, 0, b"blue", CODEC.encode(envelope, "/t"), 1, tuple(headers))


def listed(room: OnePartition) -> list[str]:
    """The meetings of the room, in order."""
    return [place_in(key, "blue")[1] for key in room.rows(ROWS) if key.startswith(list_key("blue"))]


def test_a_row_of_a_list_moves_with_its_time_and_is_there_once() -> None:
    room, inbox = OnePartition(agents()[1]), TOPICS.inbox("meetings")
    room.take(moved("a", 1, 9, inbox), moved("b", 1, 12, inbox))
    assert listed(room) == ["a", "b"]
    room.take(moved("a", 2, 15, inbox))
    assert (listed(room), len(room.rows(ROWS)), len(room.rows(PLACES))) == (["b", "a"], 2, 2)
    room.take(moved("a", 3, -1, inbox))
    assert (listed(room), len(room.rows(ROWS)), len(room.rows(PLACES))) == (["b"], 1, 1)


def test_an_event_that_is_brought_twice_changes_no_list() -> None:
    room, inbox = OnePartition(agents()[1]), TOPICS.inbox("meetings")
    room.take(moved("a", 1, 9, inbox), moved("a", 2, 15, inbox), moved("a", 1, 9, inbox))
    assert [row.version for row in room.rows(ROWS).values()] == [2]


def test_each_generation_folds_what_was_brought_there_for_it() -> None:
    """The third has the inbox that the first had: what was brought for the first still lies there."""
    routing, _, routing_third, third = agents(Standing(live=1, building=3))
    events = TOPICS.events("meetings")
    to_first = OnePartition(routing).take(moved("a", 1, 9, events, [("trace", b"1")]))
    to_third = OnePartition(routing_third).take(moved("a", 1, 10, events, [("trace", b"1")]))
    assert to_first[0].topic == to_third[0].topic
    assert (list(to_first[0].headers), len(to_third[0].headers)) == ([("trace", b"1")], 2)
    room = OnePartition(third)
    for one in (*to_first, *to_third):
        room.take(SimulatedRecord(one.topic, 0, 0, one.key, one.value, 1, tuple(one.headers)))
    assert [row.row for row in room.rows(ROWS).values()] == [Entry(BEGIN + timedelta(hours=10))]
