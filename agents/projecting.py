"""events ─▶ projecting ─▶ read tables: one row per stream, rows of another key, or parts of rows, by partition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from agents.ordering import InOrder, is_new
from agents.routing import inbox_of, routing, routing_name
from app.kernel import Envelope, Keyed, Projection
from app.runtime.agent import Agent, Fold
from app.runtime.batch import Decode
from app.runtime.generations import AT_FIRST, FIRST, Standing, generation_in, generation_name
from app.runtime.ports import Record
from app.runtime.table import Table
from app.runtime.topics import Topics
from app.runtime.unit import UnitOfWork
from tables.read_models import PLACES, Projected, list_key, listed_key, place_of, read_model_of


def projecting_name(projection: Projection[Any], generation: int = FIRST) -> str:
    """The agent's name: its changelog is named after it."""
    return f"projecting-{generation_name(projection.name, generation)}"


def agents_of_generation(projection: Projection[Any], generation: int) -> list[str]:
    """The names of all agents that lead to the rows of one generation."""
    routed = projection.keyed is Keyed.BY_KEY
    routes = [routing_name(generation_name(projection.name, generation))] if routed else []
    return [*routes, projecting_name(projection, generation)]


def projecting(
    projection: Projection[Any], topics: Topics, decode: Decode, partitions: int, standing: Standing = AT_FIRST
) -> list[Agent]:
    """The agents that maintain one read model, in each of its generations that are kept up to date.

    `decode` is the category's events', shared by all who read them.
    """
    return [
        agent
        for generation in standing.running
        for agent in _of_generation(
            _Made(projection, generation, generation == standing.building), topics, decode, partitions
        )
    ]


class _Made(NamedTuple):
    """A generation of a read model, as its agents make it."""

    projection: Projection[Any]
    generation: int
    building: bool


def _of_generation(made: _Made, topics: Topics, decode: Decode, partitions: int) -> list[Agent]:
    projection, generation, building = made
    events, category = topics.events(projection.category), projection.category
    match projection.keyed:
        case Keyed.BY_STREAM:
            return [_agent(made, events, decode, _by_stream)]
        case Keyed.BY_PARTIAL:
            return [_agent(made, events, decode, _by_partial)]
        case Keyed.BY_KEY:
            key, inbox = projection.key, inbox_of(projection.name, topics, generation)
            assert key is not None
            return [
                routing(
                    projection.name,
                    [category],
                    key,
                    topics=topics,
                    decoders={category: decode},
                    partitions=partitions,
                    generation=generation,
                    building=building,
                ),
                _agent(made, inbox, decode, _by_key if projection.listing is None else _by_list),
            ]


def _agent(
    made: _Made,
    source: str,
    decode: Decode,
    folding: Callable[[Projection[Any], Table[Projected[Any]], InOrder], Fold],
) -> Agent:
    projection, generation, building = made
    table, in_order = read_model_of(projection), InOrder(decode)
    fold = folding(projection, table, in_order)
    own = (table,) if projection.listing is None else (table, PLACES)
    ahead = table if projection.keyed is not Keyed.BY_PARTIAL and projection.listing is None else None
    return Agent(
        name=projecting_name(projection, generation),
        sources=(source,),
        decode=decode,
        fold=_of_own(fold, generation) if projection.keyed is Keyed.BY_KEY else fold,
        tables=(*own, *in_order.tables),
        ahead=ahead,
        building=building,
        help=f"{source} → project → {projection.name}",
    )


def _of_own(fold: Fold, generation: int) -> Fold:
    """Fold what was brought here for this generation: an inbox has had others."""

    def folding(unit: UnitOfWork, record: Record, event: Envelope[Any]) -> None:
        if generation_in(record.headers) == generation:
            fold(unit, record, event)

    return folding


def _by_stream(projection: Projection[Any], table: Table[Projected[Any]], in_order: InOrder) -> Fold:
    def fold(unit: UnitOfWork, record: Record, event: Envelope[Any]) -> None:
        key = event.stream_id.encode()
        before = unit.get(table, key)
        at, row = (before.version, before.row) if before else (0, None)
        for one in in_order.admit(unit, record, event, at=at):
            at, row = at + 1, projection.project(row, one)
            unit.put(table, key, Projected(at, row))

    return fold


def _by_key(projection: Projection[Any], table: Table[Projected[Any]], in_order: InOrder) -> Fold:
    def fold(unit: UnitOfWork, record: Record, event: Envelope[Any]) -> None:
        if is_new(unit, event):
            _advance(projection, unit, table, record.key or b"", event)

    return fold


def _by_partial(projection: Projection[Any], table: Table[Projected[Any]], in_order: InOrder) -> Fold:
    def fold(unit: UnitOfWork, record: Record, event: Envelope[Any]) -> None:
        for one in in_order.admit(unit, record, event):
            key = projection.key(one) if projection.key is not None else None
            if key is not None:
                _advance(projection, unit, table, key.encode(), one)

    return fold


def _advance(
    projection: Projection[Any], unit: UnitOfWork, table: Table[Projected[Any]], key: bytes, event: Envelope[Any]
) -> None:
    before = unit.get(table, key) or Projected(0, None)
    unit.put(table, key, Projected(before.version + 1, projection.project(before.row, event)))


def _by_list(projection: Projection[Any], table: Table[Projected[Any]], in_order: InOrder) -> Fold:
    listing = projection.listing
    assert listing is not None

    def fold(unit: UnitOfWork, record: Record, event: Envelope[Any]) -> None:
        """Change one row of the key's list, and move it where its time has changed."""
        if not is_new(unit, event):
            return
        key, item = (record.key or b"").decode(), listing.item(event)
        pointer = list_key(key) + item.encode()
        place = unit.get(PLACES, pointer)
        before = None if place is None else unit.get(table, listed_key(key, place, item))
        before = before or Projected(0, None)
        row = projection.project(before.row, event)
        now = None if row is None else place_of(listing.at(row))
        if now != place:
            unit.put(PLACES, pointer, now)
            if place is not None:
                unit.put(table, listed_key(key, place, item), None)
        if now is not None:
            unit.put(table, listed_key(key, now, item), Projected(before.version + 1, row))

    return fold
