"""The event store: the events topic is the store, an index finds a stream's events in it by version.

Writing is `EventWriter`'s, inside the transaction of a deciding agent. Reading is `EventStore`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from app.kernel import Aggregate, Envelope, Event
from app.kernel.errors import AppendRefused, FleetError
from app.runtime.codec import Codec
from app.runtime.ports import PartitionStore
from app.runtime.table import Table
from app.runtime.unit import UnitOfWork
from tables.snapshots import Snapshot, keep_newer, snapshots_of

HISTORY: Table[bytes] = Table("history", bytes)
PAGE_EVENTS = 500
_VERSION_BYTES = 8


class HistoryBroken(FleetError):
    """A stream's versions are not contiguous: the log or its index is damaged."""


def history_key(stream_id: str, version: int) -> bytes:
    """A stream's events lie side by side, in the order of their versions."""
    raw = stream_id.encode()  # written out: it is made for every event
    return len(raw).to_bytes(2, "big") + raw + version.to_bytes(_VERSION_BYTES, "big")


def stream_key(stream_id: str) -> bytes:
    """The part of the key that a stream's events share. The length goes first: no id is a prefix of another's."""
    raw = stream_id.encode()
    return len(raw).to_bytes(2, "big") + raw


class EventWriter:
    """Appends to one category's streams: events on their way to the topic, and the snapshot that follows from them."""

    def __init__(self, aggregate: Aggregate[Any, Any, Any], topic: str, source: str) -> None:
        self.snapshots = snapshots_of(aggregate)
        self._aggregate = aggregate
        self._topic = topic
        self._source = source
        self._codec = Codec.of_events(aggregate)

    def snapshot(self, unit: UnitOfWork, stream_id: str) -> Snapshot[Any]:
        """The stream's state at its newest version; version 0 where there is no such stream yet."""
        return unit.get(self.snapshots, stream_id.encode()) or Snapshot(0, self._aggregate.initial)

    def append(
        self, unit: UnitOfWork, events: Sequence[Event], command: Envelope[Any], *, expected_version: int
    ) -> list[str]:
        """Append what `command` led to; the events' ids. `AppendRefused` where the stream is at another version."""
        snapshot = self.snapshot(unit, command.stream_id)
        if snapshot.version != expected_version:
            raise AppendRefused(command.stream_id, expected_version, snapshot.version)
        version, state, ids = snapshot.version, snapshot.state, []
        key, correlation_id = command.stream_id.encode(), command.correlation_id or command.id
        for number, event in enumerate(events):
            version += 1
            state = self._aggregate.evolve(state, event)
            ids.append(f"{command.id}.{number}")
            recorded = Envelope(ids[-1], command.stream_id, command.time, event, version, correlation_id, command.id)
            unit.emit(self._topic, key, self._codec.encode(recorded, self._source))
        if ids:
            keep_newer(unit, self.snapshots, key, Snapshot(version, state))
        return ids


class EventStore:
    """Reads one category's streams in one partition."""

    def __init__(self, aggregate: Aggregate[Any, Any, Any], index: PartitionStore, codec: Codec) -> None:
        self._aggregate = aggregate
        self._index = index
        self._codec = codec

    def records(self, stream_id: str, *, after: int = 0) -> Iterator[tuple[int, bytes]]:
        """The stream's events as they lie in the topic, with their versions, from `after` + 1 on, in order."""
        prefix = HISTORY.prefix + stream_key(stream_id)
        cursor = HISTORY.prefix + history_key(stream_id, after)
        version = after
        while page := self._index.scan(prefix, cursor, PAGE_EVENTS):
            for key, raw in page:
                version += 1
                found = int.from_bytes(key[-_VERSION_BYTES:], "big")
                if found != version:
                    raise HistoryBroken(f"{stream_id}: found version {found} where {version} belongs")
                yield version, HISTORY.decode(raw)
            cursor = page[-1][0]

    def history(self, stream_id: str, *, after: int = 0) -> Iterator[Envelope[Any]]:
        """The stream's events with versions above `after`, in order."""
        for _, raw in self.records(stream_id, after=after):
            yield self._codec.decode(raw)

    def load(self, stream_id: str, snapshots: PartitionStore | None = None) -> Snapshot[Any]:
        """The newest state: the snapshot, where there is one, and the events after it. Equal to a replay of all."""
        snapshot: Snapshot[Any] = Snapshot(0, self._aggregate.initial)
        if snapshots is not None:
            table = snapshots_of(self._aggregate)
            raw = snapshots.get(table.prefix + stream_id.encode())
            snapshot = snapshot if raw is None else table.decode(raw)
        version, state = snapshot.version, snapshot.state
        for envelope in self.history(stream_id, after=version):
            version, state = version + 1, self._aggregate.evolve(state, envelope.message)
        return Snapshot(version, state)
