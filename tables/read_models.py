"""Read models: the rows that a projection makes, each with the number of events in it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

import msgspec

from app.kernel import Projection
from app.runtime.table import Table

R = TypeVar("R")

PLACES: Table[int] = Table("places", int)
"""Of a list: the key and the item → the place of its row, so that a later event finds it."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_PLACE_BYTES = 8
_MIDDLE = 1 << (8 * _PLACE_BYTES - 1)


class Projected(msgspec.Struct, Generic[R], frozen=True):
    """A read model's row. `version` is its stream's version, or, of other keys, the number of events in it.

    A removed row keeps its version.
    """

    version: int
    row: R | None


def read_model_of(projection: Projection[R]) -> Table[Projected[R]]:
    """The table of one projection."""
    return Table(projection.name, Projected[projection.row])  # type: ignore[name-defined]


# A list's rows lie side by side, in the order of their times; two of the same time in the order of their names.


def list_key(key: str) -> bytes:
    """What the rows of one list have in common. The length goes first: no key is a prefix of another's."""
    raw = key.encode()
    return len(raw).to_bytes(2, "big") + raw


def place_of(time: datetime) -> int:
    """A time as a number that sorts as times do: microseconds since the epoch."""
    return (time - _EPOCH) // _MICROSECOND


def listed_key(key: str, place: int, item: str) -> bytes:
    """The key of one row of a list."""
    return list_key(key) + (place + _MIDDLE).to_bytes(_PLACE_BYTES, "big") + item.encode()


def place_in(listed: bytes, key: str) -> tuple[int, str]:
    """The place and the item in the key of one row of a list."""
    rest = listed[len(list_key(key)) :]
    return int.from_bytes(rest[:_PLACE_BYTES], "big") - _MIDDLE, rest[_PLACE_BYTES:].decode()
