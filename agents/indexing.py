"""events ─▶ indexing ─▶ event store index: (aggregate id, version) → event, with no second copy in a changelog."""

from __future__ import annotations

from typing import Any

from app.kernel import Envelope
from app.runtime.agent import Agent
from app.runtime.batch import Decode
from app.runtime.ports import Record
from app.runtime.topics import Topics
from app.runtime.unit import UnitOfWork
from tables.event_store import HISTORY, history_key


def indexing_name(category: str) -> str:
    """The agent's name."""
    return f"indexing-{category}"


def indexing(category: str, topics: Topics, decode: Decode) -> Agent:
    """The agent that indexes one category's events topic, which is the event store itself."""

    def key_of(event: Envelope[Any]) -> bytes:
        return history_key(event.stream_id, event.version or 0)

    def fold(unit: UnitOfWork, record: Record, event: Envelope[Any]) -> None:
        key = key_of(event)
        if record.value is not None and unit.get(HISTORY, key) is None:
            unit.put(HISTORY, key, record.value)

    return Agent(
        name=indexing_name(category),
        sources=(topics.events(category),),
        decode=decode,
        fold=fold,
        tables=(HISTORY,),
        ahead=HISTORY,
        ahead_key=key_of,
        logged=False,
        help=f"{category}.events → index by aggregate and version",
    )
