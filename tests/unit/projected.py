"""Given a projection, when events have happened, then it has rows: the sentence of a projection's test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from app.kernel import Envelope, Event, Projection, stream_id_of

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class At:
    """An event and when it happened."""

    time: datetime
    event: Event


def given(projection: Projection[Any]) -> Given:
    """Start a sentence with a projection."""
    return Given(projection)


@dataclass(frozen=True)
class Given:
    """A projection."""

    projection: Projection[Any]

    def when(self, *happened: Event | At) -> Rows:
        """Let events happen, one a second where no time is told, and project each."""
        rows: dict[Any, Any] = {}
        versions: Counter[str] = Counter()
        for number, one in enumerate(happened):
            time, event = (one.time, one.event) if isinstance(one, At) else (BEGIN + timedelta(seconds=number), one)
            stream_id = stream_id_of(event)
            versions[stream_id] += 1
            envelope = Envelope(f"e{number}", stream_id, time, event, versions[stream_id])
            key = self._key(envelope)
            if key is not None:
                rows[key] = self.projection.project(rows.get(key), envelope)
        return Rows(self.projection, {key: row for key, row in rows.items() if row is not None})

    def _key(self, envelope: Envelope[Any]) -> Any:
        p = self.projection
        key = envelope.stream_id if p.key is None else p.key(envelope)
        return key if key is None or p.listing is None else (key, p.listing.item(envelope))


@dataclass(frozen=True)
class Rows:
    """What the projection has made."""

    projection: Projection[Any]
    rows: Mapping[Any, Any]

    def then(self, *rows: Any) -> None:
        """Assert that there are just these rows, in the order in which they came to be."""
        assert tuple(self.rows.values()) == rows

    def then_listed(self, key: str, *items: str) -> None:
        """Assert a list's items, newest first."""
        listing = self.projection.listing
        assert listing is not None
        found = {item: listing.at(row) for (of, item), row in self.rows.items() if of == key}
        assert tuple(sorted(found, key=lambda item: found[item], reverse=True)) == items
