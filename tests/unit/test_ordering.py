"""In order, once: repeated events are dropped, early ones wait, and nothing of it is forgotten in a restart."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.ordering import (
    DUPLICATES_DROPPED,
    EVENTS_HELD_BACK,
    HELD_PER_STREAM_MAX,
    InOrder,
    TooManyHeldBack,
    is_new,
)
from app.catalogue import Catalogue, decoder_of
from app.domain.order import ORDER, OrderCreated
from app.kernel import Aggregate, Command, Envelope, Event
from app.kernel.errors import ConfigurationRefused, UndecodableMessage
from app.runtime.codec import Codec
from app.runtime.ports import Progress, Record
from app.runtime.simulated import SimulatedRecord
from app.runtime.table import Table
from app.runtime.unit import UnitOfWork
from loadtest.unruly import unruly
from tables.held import GAPS, HELD, HOLDING, Held, held_back
from tables.memory import MemoryStores

TIME = datetime(2026, 1, 1, tzinfo=UTC)
ROWS: Table[list[int]] = Table("rows", list[int])


class Noted(Event, frozen=True):
    """Something was noted."""

    wire_name: ClassVar[str] = "note.noted.v1"
    note_id: str


CODEC = Codec([Noted])


def decode(record: Record) -> Envelope[Noted]:
    return CODEC.decode(record.value)


class Reader:
    """An agent's shard that notes which versions it was given; `restart` forgets everything but its rows."""

    def __init__(self, *, keeps_versions: bool = False) -> None:
        self.store = MemoryStores()("reading", 0)
        self.counts: dict[str, int] = {}
        self._in_order = InOrder(decode)
        self._keeps_versions = keeps_versions

    def take(self, events: Sequence[tuple[str, int]], *, round_records: int = 1_000) -> None:
        """Fold events, given as (stream id, version), some in each round."""
        for first in range(0, len(events), round_records):
            unit = UnitOfWork(0, self.store)
            for offset, (id_, version) in enumerate(events[first : first + round_records], first):
                self._fold(unit, record_of(id_, version, offset))
            self.store.write(dict(unit.changes()), Progress(first + 1, "log", 1))
            for name, n in unit.counts.items():
                self.counts[name] = self.counts.get(name, 0) + n

    def _fold(self, unit: UnitOfWork, record: Record) -> None:
        event = decode(record)
        row = unit.get(ROWS, event.stream_id.encode()) or []
        at = len(row) if self._keeps_versions else None
        admitted = self._in_order.admit(unit, record, event, at=at)
        unit.put(ROWS, event.stream_id.encode(), [*row, *(one.version or 0 for one in admitted)])

    def restart(self) -> None:
        self._in_order = InOrder(decode)

    def row(self, id_: str) -> list[int]:
        raw = self.store.get(ROWS.prefix + id_.encode())
        return [] if raw is None else ROWS.decode(raw)


def record_of(id_: str, version: int, offset: int = 0) -> SimulatedRecord:
    value = CODEC.encode(Envelope(f"{id_}.{version}", id_, TIME, Noted(id_), version), "/t")
    return SimulatedRecord("notes.events", 0, offset, id_.encode(), value, 1_000, (("trace", b"1"),))


@pytest.fixture(params=[False, True], ids=["kept here", "kept by the agent"])
def reader(request: pytest.FixtureRequest) -> Reader:
    return Reader(keeps_versions=request.param)


def test_events_in_order_pass(reader: Reader) -> None:
    reader.take([("a", 1), ("b", 1), ("a", 2), ("b", 2)])
    assert (reader.row("a"), reader.row("b"), reader.counts) == ([1, 2], [1, 2], {})


def test_a_repeated_event_is_dropped_and_counted(reader: Reader) -> None:
    reader.take([("a", 1), ("a", 1), ("a", 2), ("a", 1), ("a", 2)])
    assert reader.row("a") == [1, 2]
    assert reader.counts == {DUPLICATES_DROPPED: 3}


def test_an_early_event_waits_for_its_predecessors(reader: Reader) -> None:
    reader.take([("a", 1), ("a", 4), ("a", 3)])
    assert reader.row("a") == [1]
    assert held_back(reader.store) == 2
    reader.restart()
    reader.take([("b", 1), ("a", 2), ("a", 5)])
    assert (reader.row("a"), reader.row("b")) == ([1, 2, 3, 4, 5], [1])
    assert reader.counts == {EVENTS_HELD_BACK: 2}
    assert held_back(reader.store) == 0
    assert not [rows for table in (HELD, GAPS, HOLDING) if (rows := reader.store.scan(table.prefix))], "nothing is left"


def test_an_early_event_that_comes_again_is_a_duplicate(reader: Reader) -> None:
    reader.take([("a", 2), ("a", 2), ("a", 1), ("a", 2)])
    assert reader.row("a") == [1, 2]
    assert reader.counts == {EVENTS_HELD_BACK: 1, DUPLICATES_DROPPED: 2}


def test_a_gap_that_closes_in_part_holds_the_rest(reader: Reader) -> None:
    reader.take([("a", 2), ("a", 5), ("a", 4), ("a", 1)])
    assert (reader.row("a"), held_back(reader.store)) == ([1, 2], 2)
    reader.take([("a", 3)])
    assert (reader.row("a"), held_back(reader.store)) == ([1, 2, 3, 4, 5], 0)


def test_a_gap_of_one_stream_holds_no_other_up(reader: Reader) -> None:
    reader.take([("a", 2), ("b", 1), ("b", 2)])
    assert (reader.row("a"), reader.row("b")) == ([], [1, 2])


def test_too_many_early_events_raise_instead_of_being_forgotten(reader: Reader) -> None:
    reader.take([("a", version) for version in range(2, HELD_PER_STREAM_MAX + 2)])
    with pytest.raises(TooManyHeldBack, match="note/a is at version 0"):
        reader.take([("a", HELD_PER_STREAM_MAX + 2)])
    reader.take([("a", 1)])
    assert reader.row("a") == list(range(1, HELD_PER_STREAM_MAX + 2))


def test_of_an_inbox_only_repetitions_can_be_told() -> None:
    unit = UnitOfWork(0, MemoryStores()("reading", 0))
    seen = [is_new(unit, decode(record_of("a", version))) for version in (2, 5, 5, 2, 7)]
    assert seen == [True, True, False, False, True]
    assert unit.counts == {DUPLICATES_DROPPED: 2}


@given(st.integers(), st.lists(st.integers(0, 4), max_size=60), st.integers(1, 20), st.booleans())
def test_whatever_was_shuffled_and_repeated_is_folded_in_order_and_once(
    seed: int, ids: list[int], round_records: int, keeps_versions: bool
) -> None:
    events = [(f"s{id_}", ids[: number + 1].count(id_)) for number, id_ in enumerate(ids)]
    reader = Reader(keeps_versions=keeps_versions)
    reader.take(unruly(events, seed=seed), round_records=round_records)
    for id_ in set(ids):
        assert reader.row(f"s{id_}") == list(range(1, ids.count(id_) + 1))
    assert held_back(reader.store) == 0


@pytest.mark.parametrize("version", [None, 0, -1])
def test_an_event_that_does_not_tell_its_version_is_none_of_ours(version: int | None) -> None:
    created = OrderCreated("o", "c", "Ann", "a@example.org", (), Decimal(0))
    value = Codec.of_events(ORDER).encode(Envelope("e", "o", TIME, created, version), "/t")
    record = SimulatedRecord("orders.events", 0, 0, b"o", value, 1, ())
    with pytest.raises(UndecodableMessage, match="version"):
        decoder_of(ORDER)(record)


class Note(Command, frozen=True):
    """Note something."""

    wire_name: ClassVar[str] = "note.note.v1"
    note_id: str


def note(state: int, command: Note) -> list[Noted]:
    return [Noted(command.note_id)]


def noted(state: int, event: Noted | OrderCreated) -> int:
    return state + 1


def test_aggregates_do_not_share_their_streams_name() -> None:
    with pytest.raises(ConfigurationRefused, match="first word of their own"):
        Catalogue(aggregates=(ORDER, Aggregate("note", 0, note, noted)), projections=())


def test_what_is_held_back_is_the_record_as_it_was() -> None:
    record = SimulatedRecord("notes.events", 0, 7, b"n", b"value", 1_234, (("generation", b"2"),))
    held = HELD.decode(HELD.encode(Held.of(record)))
    assert (held.topic, held.offset, held.key, held.value, held.timestamp) == ("notes.events", 7, b"n", b"value", 1_234)
    assert [tuple(header) for header in held.headers] == [("generation", b"2")]
