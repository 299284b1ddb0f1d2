"""events ─▶ alerting ─▶ alerts: a filter picks events, and thin notifications tell of them.

Where a filter must know of another aggregate (is the customer a very important one?), its events are brought to that
one's partition, and a copy is kept there from that one's own events: event-carried state transfer, no look-up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from agents.ordering import InOrder, is_new, stream_of
from agents.routing import routing
from app.kernel import Envelope, Filter, Known
from app.runtime.agent import Agent
from app.runtime.batch import Decode
from app.runtime.codec import CloudEvent
from app.runtime.ports import Record
from app.runtime.table import Table
from app.runtime.topics import Topics
from app.runtime.unit import UnitOfWork
from tables.held import SEEN

ALERT_TYPE = "alert.raised.v1"

_encode = msgspec.json.Encoder().encode


class Alert(msgspec.Struct, frozen=True):
    """A thin event: what was picked by whom. Whoever is told asks the views for more."""

    filter: str
    event_id: str
    event_type: str
    stream_id: str
    version: int


def alerting_name(filter_: Filter) -> str:
    """The agent's name."""
    return f"alerting-{filter_.name}"


def alerting(filter_: Filter, topics: Topics, decoders: Mapping[str, Decode], partitions: int) -> list[Agent]:
    """The agents of one filter. `decoders` are by category."""
    if filter_.knows is None:
        return [_judging(filter_, topics, decoders)]
    return [
        _routing(filter_, filter_.knows, topics, decoders, partitions),
        _knowing(filter_, filter_.knows, topics, decoders),
    ]


def _judging(filter_: Filter, topics: Topics, decoders: Mapping[str, Decode]) -> Agent:
    source = topics.events(filter_.of.category)
    in_order = InOrder(decoders[filter_.of.category])

    def fold(unit: UnitOfWork, record: Record, event: Envelope[Any]) -> None:
        for one in in_order.admit(unit, record, event):
            if isinstance(one.message, filter_.event) and filter_.accepts(one.message, None):
                _raise(unit, topics, filter_, one)

    return Agent(
        name=alerting_name(filter_),
        sources=(source,),
        decode=decoders[filter_.of.category],
        fold=fold,
        tables=in_order.tables,
        ahead=SEEN,
        ahead_key=stream_of,
        emits=(topics.alerts,),
        help=f"{source} → {filter_.name} → {topics.alerts}",
    )


def _routing(filter_: Filter, knows: Known, topics: Topics, decoders: Mapping[str, Decode], partitions: int) -> Agent:
    def key(event: Envelope[Any]) -> str | None:
        return knows.id_of(event.message) if isinstance(event.message, filter_.event) else None

    return routing(filter_.name, [filter_.of.category], key, topics=topics, decoders=decoders, partitions=partitions)


def _knowing(filter_: Filter, knows: Known, topics: Topics, decoders: Mapping[str, Decode]) -> Agent:
    known, inbox = topics.events(knows.aggregate.category), topics.inbox(filter_.name)
    copies: Table[Any] = Table("copies", knows.aggregate.state_type)
    kinds = tuple(knows.aggregate.events)
    in_order = InOrder(decoders[knows.aggregate.category])

    def fold(unit: UnitOfWork, record: Record, event: Envelope[Any]) -> None:
        key = record.key or b""
        copy = unit.get(copies, key) or knows.aggregate.initial
        if isinstance(event.message, kinds):
            for one in in_order.admit(unit, record, event):
                copy = knows.aggregate.evolve(copy, one.message)
                unit.put(copies, key, copy)
        elif is_new(unit, event) and filter_.accepts(event.message, copy):
            _raise(unit, topics, filter_, event)

    return Agent(
        name=alerting_name(filter_),
        sources=(known, inbox),
        decode={known: decoders[knows.aggregate.category], inbox: decoders[filter_.of.category]},
        fold=fold,
        tables=(copies, *in_order.tables),
        ahead=copies,
        emits=(topics.alerts,),
        help=f"{known}, {inbox} → {filter_.name} → {topics.alerts}",
    )


def _raise(unit: UnitOfWork, topics: Topics, filter_: Filter, event: Envelope[Any]) -> None:
    """The alert's id is derived from the event's: whoever is told twice can tell."""
    kind = type(event.message).wire_name
    alert = Alert(filter_.name, event.id, kind, event.stream_id, event.version or 0)
    wire = CloudEvent(
        f"{event.id}:{filter_.name}",
        ALERT_TYPE,
        f"/eventfleet/filters/{filter_.name}",
        event.stream_id,
        event.time,
        msgspec.Raw(_encode(alert)),
        correlationid=event.correlation_id,
        causationid=event.id,
        specversion="1.0",
    )
    unit.emit(topics.alerts, event.stream_id.encode(), _encode(wire))
