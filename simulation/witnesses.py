"""Witnesses: agents that defend themselves against nothing, and so hide no fault of the engine.

Deciders and projections drop repetitions by themselves. A witness counts whatever it is given.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import msgspec

from app.kernel.errors import UndecodableMessage
from app.runtime.agent import Agent
from app.runtime.batch import Decode
from app.runtime.ports import Record
from app.runtime.table import Table
from app.runtime.topics import Topic, Topics
from app.runtime.unit import UnitOfWork

TALLYING, HEARING = "tallying", "hearing"
TALLY_IN, TALLY_OUT = "tally.in", "tally.out"


class Tally(msgspec.Struct, frozen=True):
    """How many records of a key there were, and a checksum of all of them in their order."""

    count: int
    digest: int


TALLIES: Table[Tally] = Table("tallies", Tally)
ODD: Table[int] = Table("odd", int)
SEEN: Table[Tally] = Table("seen", Tally)


def witnesses(topics: Topics, sources: Mapping[str, Decode]) -> list[Agent]:
    """The witnesses. `sources` are further topics that the second one hears, with the decode that all readers share."""
    heard = (topics.prefix + TALLY_OUT, *sorted(sources))
    decode = {topics.prefix + TALLY_OUT: _value, **sources}
    out = topics.prefix + TALLY_OUT
    return [
        Agent(TALLYING, (topics.prefix + TALLY_IN,), _value, _Tallying(out), (TALLIES, ODD), TALLIES, emits=(out,)),
        Agent(HEARING, heard, decode, _hear, (SEEN,)),
    ]


def witness_topics(topics: Topics) -> list[Topic]:
    """The topics of the witnesses."""
    own = [topic for name in (TALLYING, HEARING) for topic in topics.of_agent(name, logged=True)]
    return [Topic(topics.prefix + TALLY_IN), Topic(topics.prefix + TALLY_OUT), *own]


def _value(record: Record) -> bytes:
    if record.value is None:
        raise UndecodableMessage("the record has no value")
    return record.value


class _Tallying:
    """tally.in → count by key → tally.out; the row in `odd` comes and goes."""

    def __init__(self, out: str) -> None:
        self._out = out

    def __call__(self, unit: UnitOfWork, record: Record, value: bytes) -> None:
        key = record.key or b""
        before = unit.get(TALLIES, key) or Tally(0, 0)
        after = Tally(before.count + 1, zlib.crc32(value, before.digest))
        unit.put(TALLIES, key, after)
        unit.put(ODD, key, after.count if after.count % 2 else None)
        unit.emit(self._out, key, b"%d" % after.count)
        if value == b"!":
            raise ValueError("a record that no handler can bear, and of which nothing may stay")


def _hear(unit: UnitOfWork, record: Record, _: Any) -> None:
    """One row per topic: how many records it had, and a checksum of their offsets and values, in order."""
    topic: str = getattr(record, "topic", "")
    key = topic.encode()
    before = unit.get(SEEN, key) or Tally(0, 0)
    unit.put(SEEN, key, heard_next(before, record))


def heard_next(before: Tally, record: Record) -> Tally:
    """The row after one more record."""
    digest = zlib.crc32(b"%d:" % record.offset + (record.value or b""), before.digest)
    return Tally(before.count + 1, digest)
