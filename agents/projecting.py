"""events ─▶ projecting ─▶ read tables: a projection keeps one row per stream."""

from __future__ import annotations

from typing import Any

from app.kernel import Envelope, Projection
from app.kernel.errors import FleetError
from app.runtime.agent import Agent
from app.runtime.batch import Decode
from app.runtime.ports import Record
from app.runtime.topics import Topics
from app.runtime.unit import UnitOfWork
from tables.read_models import Projected, read_model_of


class GapInStream(FleetError):
    """An event came before one of its predecessors: the row would be wrong."""


def projecting_name(projection: Projection[Any]) -> str:
    """The agent's name: its changelog is named after it."""
    return f"projecting-{projection.name}"


def projecting(projection: Projection[Any], topics: Topics, decode: Decode) -> Agent:
    """The agent that maintains one read model. `decode` is the category's events', shared by all who read them."""
    table = read_model_of(projection)

    def fold(unit: UnitOfWork, record: Record, event: Envelope[Any]) -> None:
        key, version = event.stream_id.encode(), event.version or 0
        before = unit.get(table, key)
        at = before.version if before else 0
        if version <= at:
            return  # a duplicate: it is in the row already
        if version != at + 1:
            raise GapInStream(f"{event.stream_id}: the row is at version {at}, the event is version {version}")
        row = projection.project(before.row if before else None, event)
        unit.put(table, key, Projected(version, row))

    return Agent(
        name=projecting_name(projection),
        sources=(topics.events(projection.category),),
        decode=decode,
        fold=fold,
        tables=(table,),
        ahead=table,
        help=f"{projection.category}.events → project → {projection.name}",
    )
