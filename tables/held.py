"""Ordering: how far each stream has come, and the events that came before one of their predecessors."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from app.runtime.ports import Header, PartitionStore, Record
from app.runtime.table import Table

_VERSION_BYTES = 8


class Held(msgspec.Struct, frozen=True):
    """A record that waits for its predecessor, as it lay in its topic. It is a `Record` like any other."""

    topic: str
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: Sequence[Header] = ()

    @classmethod
    def of(cls, record: Record) -> Held:
        """The record, to be kept."""
        headers = tuple((name, bytes(content)) for name, content in record.headers)
        return cls(record.topic, record.offset, record.key, record.value, record.timestamp, headers)


class Gap(msgspec.Struct, frozen=True):
    """What is held of one stream: the last version folded, and the versions that wait, in order.

    `since_ms` is the time of the record that found the gap.
    """

    last: int
    waiting: tuple[int, ...]
    since_ms: int


SEEN: Table[int] = Table("seen", int)
"""Stream → the version of its last event that was folded."""

HELD: Table[Held] = Table("held", Held)
"""Stream and version → the record that waits."""

GAPS: Table[Gap] = Table("gaps", Gap)
"""Stream → what it waits for."""

HOLDING: Table[int] = Table("holding", int)
"""One row: how many records wait in the partition. None wait where there is no row: the usual case costs one look."""

WHOLE_PARTITION = b""


def held_key(stream: bytes, version: int) -> bytes:
    """One record's place. Versions are of one length: no two streams and versions share a key."""
    return stream + version.to_bytes(_VERSION_BYTES, "big")


def held_back(store: PartitionStore) -> int:
    """How many records wait in a partition."""
    raw = store.get(HOLDING.prefix + WHOLE_PARTITION)
    return 0 if raw is None else HOLDING.decode(raw)
