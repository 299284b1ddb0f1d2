"""Windows: rows that are still open, final ones, and how far time has come."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec

from app.kernel import Window
from app.kernel.window import time_of
from app.runtime.table import Table

R = TypeVar("R")

_TIME_BYTES = 8
_LATEST = (1 << 63) - 1
_OVER_ALL, _KEYED = b"\x00", b"\x01"

ONLY = b""
"""The key of a table's only row."""


class Figure(msgspec.Struct, Generic[R], frozen=True):
    """What is known of one span and key: here, or over all partitions. Times in ms since 1970; `None` is over all."""

    start: int
    end: int
    key: str | None
    row: R


class Sessions(msgspec.Struct, Generic[R], frozen=True):
    """A key's open sessions, in order. `due` is when the table of dues has this key next."""

    open: tuple[Figure[R], ...]
    due: int


class SourceTime(msgspec.Struct, frozen=True):
    """How far time has come in one partition of the events.

    `quiet_since` is the time of the first tick after the last event, 0 while there was none. `next_due` is not later
    than the first figure to be closed here, 0 where there is none. `asked` says which partitions wait for the watermark
    to reach what.
    """

    watermark: int = 0
    quiet_since: int = 0
    next_due: int = 0
    asked: dict[int, int] = {}


class Gathered(msgspec.Struct, frozen=True):
    """What one partition of the inbox knows of its sources: up to when each has handed over everything, and what it
    was asked for. `next_due` is not later than the first figure to become final here, 0 where there is none."""

    passed: dict[int, int] = {}
    asked: dict[int, int] = {}
    next_due: int = 0
    swept: int = 0

    def watermark(self, partitions: int) -> int:
        """Up to when every source has handed over everything."""
        return min(self.passed.get(number, 0) for number in range(partitions))


SOURCE_TIME: Table[SourceTime] = Table("source-time", SourceTime)
GATHERED: Table[Gathered] = Table("gathered", Gathered)
WAITING: Table[int] = Table("waiting", int)
"""Has a row while this partition must be told the time."""
DUES: Table[int] = Table("dues", int)
"""(When, key) of sessions that may have ended then."""


def partials_of(window: Window[R]) -> Table[Figure[R]]:
    """What this partition's own events make, by (when the span closes, key): the buckets of a sliding window too."""
    return Table("partials", Figure[window.row])  # type: ignore[name-defined]


def gathering_of(window: Window[R]) -> Table[Figure[R]]:
    """What the partitions have handed over of a span that is not final yet, by (when it closes, key)."""
    return Table("gathering", Figure[window.row])  # type: ignore[name-defined]


def sessions_of(window: Window[R]) -> Table[Sessions[R]]:
    """The open sessions by key."""
    return Table("sessions", Sessions[window.row])  # type: ignore[name-defined]


def finals_of(window: Window[R]) -> Table[Figure[R]]:
    """Final figures, the newest first."""
    return Table("finals", Figure[window.row])  # type: ignore[name-defined]


def final_name(window: Window[Any]) -> str:
    """The wire name of a window's final values. Like every wire name it is written for ever."""
    return f"{window.name}.closed.v1"


def told_type(window: Window[Any]) -> type[msgspec.Struct]:
    """The type of a figure as it is told outside, over HTTP and in the topic of finals: the span, and the row's fields.

    They are `window`, `start`, `end` and `key`; the start belongs to the span, the end does not.
    """
    about = {"__doc__": f"What {window.name} has counted from `start` up to and without `end`, of a key or over all."}
    name = "".join(word.capitalize() for word in window.name.split("-"))
    span = [("window", str), ("start", datetime), ("end", datetime), ("key", str | None)]
    row = [(field.name, field.type) for field in msgspec.structs.fields(window.row)]
    return msgspec.defstruct(f"{name}Figure", [*span, *row], namespace=about, frozen=True)


def told(window: Window[Any], figure: Figure[Any], kind: type[msgspec.Struct]) -> msgspec.Struct:
    """The figure as a value of that type."""
    row = (getattr(figure.row, name) for name in window.row.__struct_fields__)
    return kind(window.name, time_of(figure.start), time_of(figure.end), figure.key, *row)


def tables_of(window: Window[Any]) -> tuple[Table[Any], ...]:
    """Every table of a window's agent, but those of the order of events."""
    gathering = (gathering_of(window), sessions_of(window), DUES, GATHERED, finals_of(window))
    return (partials_of(window), SOURCE_TIME, WAITING, *gathering)


def due_key(due: int, key: str | None) -> bytes:
    """What is due first comes first."""
    return due_prefix(due) + (_OVER_ALL if key is None else _KEYED + key.encode())


def due_prefix(due: int) -> bytes:
    """Less than the keys of all that is due then, greater than those of all that is due before."""
    return due.to_bytes(_TIME_BYTES, "big")


def due_of(key: bytes) -> tuple[int, str | None]:
    """What a key says."""
    rest = key[_TIME_BYTES:]
    return int.from_bytes(key[:_TIME_BYTES], "big"), None if rest == _OVER_ALL else rest[1:].decode()


def final_key(figure: Figure[Any]) -> bytes:
    """What has ended last comes first."""
    return ended_before(figure.end + 1) + due_key(figure.start, figure.key)


def ended_before(end: int) -> bytes:
    """Less than the keys of all finals that ended before then, greater than those of all others."""
    return (_LATEST - end + 1).to_bytes(_TIME_BYTES, "big")


def session_key(key: str) -> bytes:
    """The key of a key's sessions."""
    return key.encode()
