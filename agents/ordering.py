"""In order, once: what every agent that reads streams of events sees of them, whatever the log holds.

The log of a stream has each version once and in order, as long as only this fleet's deciders write it and brokers keep
their promises. This is the second line of defence, for when one of them does not: what was folded before is dropped,
what comes too early is held back, in the agent's own tables, until its predecessors have come.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from app.kernel import Envelope
from app.kernel.errors import FleetError
from app.kernel.messages import first_word
from app.runtime.batch import Decode
from app.runtime.ports import Record
from app.runtime.table import Table
from app.runtime.unit import UnitOfWork
from tables.held import GAPS, HELD, HOLDING, SEEN, WHOLE_PARTITION, Gap, Held, held_key

HELD_PER_STREAM_MAX = 100
HELD_PER_PARTITION_MAX = 10_000
"""Beyond either the handler raises: the sequence goes to the dead letters, loudly, and nothing is lost."""

DUPLICATES_DROPPED, EVENTS_HELD_BACK = "duplicates_dropped", "events_held_back"

Arrival = tuple[Record, Envelope[Any]]
"""A record and its event, whose turn it is."""


class TooManyHeldBack(FleetError):
    """So many events wait for a predecessor that it must be looked for: the sequence is parked."""


class HeldLost(FleetError):
    """The tables contradict themselves: a row that must be there is not."""


class InOrder:
    """Admits each stream's events in the order of their versions, from 1 on, each once.

    It is for streams of which every event comes by. `decode` is the agent's own, for all of its sources or by topic.
    `tables` belong among the agent's. A stream is named as its events are: `order/<id>` of `order.created.v1`.
    """

    tables: tuple[Table[Any], ...] = (SEEN, HELD, GAPS, HOLDING)

    def __init__(self, decode: Decode | Mapping[str, Decode]) -> None:
        self._decode = decode

    def admit(
        self, unit: UnitOfWork, record: Record, event: Envelope[Any], *, at: int | None = None
    ) -> Sequence[Envelope[Any]]:
        """The events to fold now, in order: none for a repeated or an early one, several where a gap has closed.

        `at` is the version that the stream is at, from an agent that keeps it itself; else it is kept here.
        """
        if at is None:
            return [one for _, one in self.arrivals(unit, record, event)]
        if event.version == at + 1 and not unit.get(HOLDING, WHOLE_PARTITION):
            return (event,)  # nearly every event: this way is as short as can be
        return [one for _, one in self._arrivals(unit, record, event, at)]

    def arrivals(self, unit: UnitOfWork, record: Record, event: Envelope[Any]) -> Sequence[Arrival]:
        """The same with the records that the events came in."""
        stream = stream_of(event)
        arrivals = self._arrivals(unit, record, event, unit.get(SEEN, stream) or 0)
        if arrivals:
            unit.put(SEEN, stream, arrivals[-1][1].version)
        return arrivals

    def _arrivals(self, unit: UnitOfWork, record: Record, event: Envelope[Any], last: int) -> Sequence[Arrival]:
        version = event.version or 0
        if version <= last:
            unit.count(DUPLICATES_DROPPED)
            return ()
        holding = unit.get(HOLDING, WHOLE_PARTITION)
        if version != last + 1:
            self._hold(unit, record, event, last, holding or 0)
            return ()
        first = (record, event)
        return [first, *self._followers(unit, event, holding)] if holding else (first,)

    def _hold(self, unit: UnitOfWork, record: Record, event: Envelope[Any], last: int, holding: int) -> None:
        stream, version = stream_of(event), event.version or 0
        gap = unit.get(GAPS, stream) or Gap(last, (), record.timestamp)
        if version in gap.waiting:
            unit.count(DUPLICATES_DROPPED)
            return
        if len(gap.waiting) >= HELD_PER_STREAM_MAX or holding >= HELD_PER_PARTITION_MAX:
            raise TooManyHeldBack(
                f"{stream.decode()} is at version {last}, this event is version {version}, and {len(gap.waiting)} "
                f"events of it wait already, {holding} in the partition"
            )
        unit.put(HELD, held_key(stream, version), Held.of(record))
        unit.put(GAPS, stream, Gap(last, tuple(sorted((*gap.waiting, version))), gap.since_ms))
        unit.put(HOLDING, WHOLE_PARTITION, holding + 1)
        unit.count(EVENTS_HELD_BACK)

    def _followers(self, unit: UnitOfWork, event: Envelope[Any], holding: int) -> list[Arrival]:
        """Those that waited for this event, and wait no more."""
        stream, last = stream_of(event), event.version or 0
        gap = unit.get(GAPS, stream)
        if gap is None:
            return []
        found: list[Arrival] = []
        waiting = list(gap.waiting)
        while waiting and waiting[0] == last + 1:
            last = waiting.pop(0)
            key = held_key(stream, last)
            held = unit.get(HELD, key)
            if held is None:
                raise HeldLost(f"{stream.decode()}: the event with version {last} was held back and is gone")
            found.append((held, self._decode_of(held.topic)(held)))
            unit.put(HELD, key, None)
        unit.put(GAPS, stream, Gap(last, tuple(waiting), gap.since_ms) if waiting else None)
        unit.put(HOLDING, WHOLE_PARTITION, holding - len(found) or None)
        return found

    def _decode_of(self, topic: str) -> Decode:
        return self._decode[topic] if isinstance(self._decode, Mapping) else self._decode


def is_new(unit: UnitOfWork, event: Envelope[Any]) -> bool:
    """Whether the event was not seen yet, for streams of which only some events come, in order, as in an inbox.

    There a gap cannot be told from an event that went elsewhere; whoever filled the inbox has kept the order.
    """
    stream, version = stream_of(event), event.version or 0
    if version <= (unit.get(SEEN, stream) or 0):
        unit.count(DUPLICATES_DROPPED)
        return False
    unit.put(SEEN, stream, version)
    return True


def stream_of(event: Envelope[Any]) -> bytes:
    """The stream's name, unique among all aggregates: `order/<id>`, after the first word of its events' names."""
    return _prefix(type(event.message).wire_name) + event.stream_id.encode()


@functools.cache
def _prefix(wire_name: str) -> bytes:
    return f"{first_word(wire_name)}/".encode()
