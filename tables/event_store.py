"""The event store: the events topic is the store, this index finds a stream's events in it by version."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from app.kernel import Aggregate, Envelope
from app.kernel.errors import FleetError
from app.runtime.codec import Codec
from app.runtime.ports import PartitionStore
from app.runtime.table import Table
from tables.snapshots import Snapshot, snapshots_of

S = TypeVar("S")

HISTORY: Table[bytes] = Table("history", bytes)
PAGE_EVENTS = 500
_VERSION_BYTES = 8


class HistoryBroken(FleetError):
    """A stream's versions are not contiguous: the log or its index is damaged."""


def history_key(stream_id: str, version: int) -> bytes:
    """A stream's events lie side by side, in the order of their versions."""
    return stream_key(stream_id) + version.to_bytes(_VERSION_BYTES, "big")


def stream_key(stream_id: str) -> bytes:
    """The part of the key that a stream's events share. The length goes first: no id is a prefix of another's."""
    raw = stream_id.encode()
    return len(raw).to_bytes(2, "big") + raw


class EventStore:
    """Reads one category's streams in one partition. Appending is the deciding agent's, inside its transaction."""

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
