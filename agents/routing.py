"""events ─▶ routing ─▶ inbox: events are brought to the partition of another key, for whoever keeps rows by that key.

A chain's instances, a filter's copies of another aggregate and re-keyed read models live where their own keys belong.
The copy is made in the engine's transaction, so it is made once, and one stream's events are brought in their order: an
inbox holds neither repeated events nor early ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from agents.ordering import InOrder, stream_of
from app.kernel import Envelope
from app.runtime.agent import Agent
from app.runtime.batch import Decode
from app.runtime.generations import FIRST, generation_name, header_of
from app.runtime.ports import Record
from app.runtime.topics import Topics, partition_of
from app.runtime.unit import UnitOfWork
from tables.held import SEEN

Key = Callable[[Envelope[Any]], str | None]
"""The key that an event is brought to, or `None` where it does not matter."""


def routing_name(name: str) -> str:
    """The name of the agent that fills the inbox of that name."""
    return f"routing-{name}"


def inbox_of(name: str, topics: Topics, generation: int = FIRST) -> str:
    """The topic that events are copied into: generations of a read model take turns with two."""
    return topics.inboxes(name)[(generation - FIRST) % 2]


def routing(
    name: str,
    categories: Iterable[str],
    key: Key,
    *,
    topics: Topics,
    decoders: Mapping[str, Decode],
    partitions: int,
    generation: int = FIRST,
    building: bool = False,
) -> Agent:
    """The agent that copies the events of some categories into the inbox `name`. `decoders` are by category.

    A later `generation` of a read model has an agent of its own, and its records are marked.
    """
    inbox, mark = inbox_of(name, topics, generation), header_of(generation)
    by_source = {topics.events(category): decoders[category] for category in categories}

    in_order = InOrder(by_source)

    def fold(unit: UnitOfWork, record: Record, event: Envelope[Any]) -> None:
        for arrived, one in in_order.arrivals(unit, record, event):
            wanted = key(one)
            if wanted is not None:
                raw = wanted.encode()
                headers = [*arrived.headers, *mark] if mark else arrived.headers
                unit.emit(inbox, raw, arrived.value, partition=partition_of(raw, partitions), headers=headers)

    sources = tuple(by_source)
    return Agent(
        name=routing_name(generation_name(name, generation)),
        sources=sources,
        decode=by_source,
        fold=fold,
        tables=in_order.tables,
        ahead=SEEN,
        ahead_key=stream_of,
        emits=(inbox,),
        building=building,
        help=f"{', '.join(sources)} → re-key → {inbox}",
    )
