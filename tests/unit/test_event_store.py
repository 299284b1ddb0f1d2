"""The event store: what is appended, and what is read of a stream and of no other."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from app.domain.customer import CUSTOMER, Channel, Customer, CustomerRegistered, UserVerified, VerifyUser
from app.kernel import Envelope, Event
from app.kernel.errors import AppendRefused
from app.runtime.codec import Codec
from app.runtime.ports import Progress
from app.runtime.unit import UnitOfWork
from tables.event_store import HISTORY, EventStore, EventWriter, HistoryBroken, history_key
from tables.memory import MemoryStore, MemoryStores
from tables.snapshots import Snapshot, keep_newer, snapshots_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CODEC = Codec.of_events(CUSTOMER)
LIFE: list[Event] = [
    CustomerRegistered("c", "Ann", "a@b.example", Channel.WEB),
    UserVerified("c", "Ann", "a@b.example"),
]
COMMAND = Envelope("id", "c", NOW, VerifyUser("c"), None, "told", None)


def index(*streams: str, versions: tuple[int, ...] = (1, 2)) -> MemoryStore:
    """Each stream's events, with the stream's id in their names."""
    store = MemoryStores()("indexing", 0)
    rows: dict[bytes, bytes | None] = {
        HISTORY.prefix + history_key(id_, version): HISTORY.encode(f"{id_} {version}".encode())
        for id_ in streams
        for version in versions
    }
    store.write(rows, Progress(1, "log", 1))
    return store


def lived() -> MemoryStore:
    store = MemoryStores()("indexing", 0)
    encoded = [CODEC.encode(Envelope(f"e{n}", "c", NOW, event, n), "/t") for n, event in enumerate(LIFE, 1)]
    rows: dict[bytes, bytes | None] = {
        HISTORY.prefix + history_key("c", n): HISTORY.encode(raw) for n, raw in enumerate(encoded, 1)
    }
    store.write(rows, Progress(1, "log", 1))
    return store


def store_of(rows: MemoryStore) -> EventStore:
    return EventStore(CUSTOMER, rows, CODEC)


@pytest.mark.parametrize("other", ["ab", "a\x00", "a\x00\x00\x00\x00\x00\x00\x00\x01", "b", ""])
def test_a_stream_has_no_events_of_another_whose_id_begins_alike(other: str) -> None:
    found = store_of(index("a", other))
    assert list(found.records("a")) == [(1, b"a 1"), (2, b"a 2")]
    assert list(found.records("a", after=1)) == [(2, b"a 2")]


def test_a_hole_in_a_stream_is_told_and_not_passed_over() -> None:
    with pytest.raises(HistoryBroken, match="found version 3 where 2 belongs"):
        list(store_of(index("a", versions=(1, 3))).records("a"))


def test_the_state_is_the_same_with_a_snapshot_and_without() -> None:
    table, snapshots = snapshots_of(CUSTOMER), MemoryStores()("deciding", 0)
    whole = store_of(lived()).load("c")
    assert whole == Snapshot(2, Customer("Ann", "a@b.example", verified=True))
    # One that cannot come of the events, to see that those before it are left alone.
    snapshot = Snapshot(1, Customer("Bea", "b@b.example"))
    snapshots.write({table.prefix + b"c": table.encode(snapshot)}, Progress(1, "log", 1))
    assert store_of(lived()).load("c", snapshots) == Snapshot(2, Customer("Bea", "b@b.example", verified=True))


def test_events_of_one_decision_are_numbered_and_all_of_them_count() -> None:
    unit, writer = UnitOfWork(0, MemoryStores()("deciding", 0)), EventWriter(CUSTOMER, "events", "/t")
    assert writer.append(unit, LIFE, COMMAND, expected_version=0) == ["id.0", "id.1"]
    told = [CODEC.decode(one.value) for one in unit.emitted]
    assert [(one.id, one.version, one.correlation_id, one.causation_id) for one in told] == [
        ("id.0", 1, "told", "id"),
        ("id.1", 2, "told", "id"),
    ]
    assert writer.snapshot(unit, "c") == Snapshot(2, Customer("Ann", "a@b.example", verified=True))


def test_an_append_at_another_version_is_refused() -> None:
    unit, writer = UnitOfWork(0, MemoryStores()("deciding", 0)), EventWriter(CUSTOMER, "events", "/t")
    with pytest.raises(AppendRefused):
        writer.append(unit, LIFE, COMMAND, expected_version=1)
    assert not unit.emitted


def test_an_older_snapshot_replaces_no_newer_one() -> None:
    unit, table = UnitOfWork(0, MemoryStores()("deciding", 0)), snapshots_of(CUSTOMER)
    newer, older = Snapshot(2, Customer("Ann")), Snapshot(1, Customer("Bea"))
    keep_newer(unit, table, b"c", newer)
    keep_newer(unit, table, b"c", older)
    assert unit.get(table, b"c") == newer
