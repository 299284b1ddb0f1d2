"""events ─▶ indexing ─▶ event store index: (aggregate id, version) → event, with no second copy in a changelog.

It looks at an event's envelope alone: an event whose data cannot be decoded (by this release, yet) is kept like any
other, and no hole is left in its stream. What has no envelope is no event. So nothing of it ever lies in dead letters,
from where an agent without a changelog could not take it back.
"""

from __future__ import annotations

from typing import Any

import msgspec

from app.kernel import Envelope
from app.runtime.agent import Agent
from app.runtime.batch import Decode
from app.runtime.ports import Record
from app.runtime.topics import Topics
from app.runtime.unit import UnitOfWork
from tables.event_store import HISTORY, history_key

NO_EVENT_SKIPPED = "no_event_skipped"


class _Place(msgspec.Struct):
    subject: str
    version: int


_place_of = msgspec.json.Decoder(_Place).decode


def indexing_name(category: str) -> str:
    """The agent's name."""
    return f"indexing-{category}"


def indexing(category: str, topics: Topics, decode: Decode) -> Agent:
    """The agent that indexes one category's events topic, which is the event store itself."""

    def key_of(event: Envelope[Any]) -> bytes:
        return history_key(event.stream_id, event.version or 0)

    def fold(unit: UnitOfWork, record: Record, event: Envelope[Any]) -> None:
        _keep(unit, key_of(event), record)

    def undecodable(unit: UnitOfWork, record: Record, _: object) -> None:
        try:
            place = _place_of(record.value or b"")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            place = _Place("", 0)
        if place.version > 0 and record.key == place.subject.encode(errors="replace"):
            _keep(unit, history_key(place.subject, place.version), record)
        else:
            unit.count(NO_EVENT_SKIPPED)

    return Agent(
        name=indexing_name(category),
        sources=(topics.events(category),),
        decode=decode,
        fold=fold,
        undecodable=undecodable,
        tables=(HISTORY,),
        ahead=HISTORY,
        ahead_key=key_of,
        logged=False,
        help=f"{category}.events → index by aggregate and version",
    )


def _keep(unit: UnitOfWork, key: bytes, record: Record) -> None:
    if record.value is not None and unit.get(HISTORY, key) is None:
        unit.put(HISTORY, key, record.value)
