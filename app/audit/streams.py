"""Invariants of the event topics alone: every stream's events, once, in order, where they belong."""

from __future__ import annotations

from collections.abc import Sequence

from app.audit.checker import Shared
from app.audit.findings import Findings
from app.audit.ledger import Flag
from app.audit.records import Kind, Seen

PARTITIONS_MAX = 1 << 16
"""A stream's version and partition are kept in one number, and streams as hashes: see `Ledger`."""


class Streams:
    """Versions, ids, keys. About 110 bytes for each aggregate and one ledger entry for each event."""

    kinds = frozenset({Kind.EVENT, Kind.OUTCOME})

    def __init__(self, shared: Shared) -> None:
        self._events = shared.events
        self._streams: dict[int, int] = {}
        self.readable = Findings("records-readable", "every record of the event and outcome topics is a CloudEvent")
        self.versions = Findings("versions-contiguous", "each stream's versions are 1, 2, 3, … in log order")
        self.ids = Findings("event-ids-unique", "no event id stands twice in the log")
        self.keys = Findings("keys-and-partitions", "a record's key is its stream, and a stream stays in one partition")

    @property
    def findings(self) -> Sequence[Findings]:
        """The books of its invariants."""
        return self.readable, self.versions, self.ids, self.keys

    def take(self, seen: Seen) -> None:
        """The next event or outcome."""
        message = seen.message
        if not self.readable.expect(message is not None, lambda: f"{seen.at}: not a CloudEvent") or message is None:
            return
        subject, category = message.subject, seen.place.owner
        self.keys.expect(
            seen.key == subject.encode(), lambda: f"{seen.at}: the key is {seen.key!r}, the subject {subject!r}"
        )
        stream = hash((category, subject))
        version, partition = divmod(self._streams.get(stream, seen.partition), PARTITIONS_MAX)
        self.keys.expect(
            partition == seen.partition, lambda: f"{seen.at}: {subject} was in partition {partition} before"
        )
        if seen.place.kind is Kind.EVENT:
            again = self._events.mark(message.id, Flag.SEEN)
            self.ids.expect(not again, lambda: f"{seen.at}: the event id {message.id} stands in the log before")
            self.versions.expect(
                message.version == version + 1,
                lambda: f"{seen.at}: {subject} has version {message.version} after version {version}",
            )
            version = message.version or version
        self._streams[stream] = version * PARTITIONS_MAX + partition
