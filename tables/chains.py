"""Chains: the instances by id, their timers by the moment when they are due, and those that wait by since when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

import msgspec

from app.kernel import Chain
from app.runtime.table import Table
from app.runtime.unit import UnitOfWork

S = TypeVar("S")


class Instance(msgspec.Struct, Generic[S], frozen=True):
    """One instance: its state, what it waits for and since when, its timers, and which events it has seen.

    `seen` has the version of the last event of each stream: what comes again is dropped.
    """

    state: S
    since: datetime
    waiting_for: str = ""
    finished: bool = False
    timers: dict[str, datetime] = msgspec.field(default_factory=dict)
    seen: dict[str, int] = msgspec.field(default_factory=dict)
    correlation_id: str | None = None
    counted: bool = False
    """Whether it stands in `WAITING` and `STANDINGS`: those that were written before there were these do not."""


def instances_of(chain: Chain[S]) -> Table[Instance[S]]:
    """The table of one chain's instances."""
    return Table("instances", Instance[chain.state_type])  # type: ignore[name-defined]


TIMERS: Table[datetime] = Table("timers", datetime)
"""Due timers come first. The row repeats the due time: a timer that was set anew has another key."""

WAITING: Table[str] = Table("waiting", str)
"""What each unfinished instance waits for; those that have waited longest come first."""

STANDINGS: Table[int] = Table("standings", int)
"""How many instances of this partition wait for what, and how many are finished."""

FINISHED, NOTHING = "finished", "nothing"

_MS_BYTES = 8
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def timer_key(due: datetime, name: str, instance: str) -> bytes:
    """When, which, whose."""
    return int(due.timestamp() * 1000).to_bytes(_MS_BYTES, "big") + name.encode() + b"\x00" + instance.encode()


def timer_of(key: bytes) -> tuple[datetime, str, str]:
    """What a key says."""
    due_ms = int.from_bytes(key[:_MS_BYTES], "big")
    name, _, instance = key[_MS_BYTES:].partition(b"\x00")
    return datetime.fromtimestamp(due_ms / 1000, UTC), name.decode(), instance.decode()


def waiting_key(since: datetime, instance: str) -> bytes:
    """Since when, whose."""
    return epoch_ms(since).to_bytes(_MS_BYTES, "big") + instance.encode()


def epoch_ms(moment: datetime) -> int:
    """Whole milliseconds since 1970, exactly."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def waiting_of(key: bytes) -> tuple[datetime, str]:
    """What a key says."""
    return datetime.fromtimestamp(int.from_bytes(key[:_MS_BYTES], "big") / 1000, UTC), key[_MS_BYTES:].decode()


def keep_standing(unit: UnitOfWork, id_: str, before: Instance[S], after: Instance[S]) -> None:
    """Let `WAITING` and `STANDINGS` follow an instance from one standing to the next."""
    old, new = _standing(before) if before.counted else None, _standing(after)
    if old == new:
        return
    if old is not None:
        _count(unit, old[0], -1)
        unit.put(WAITING, waiting_key(before.since, id_), None)
    _count(unit, new[0], 1)
    if not after.finished:
        unit.put(WAITING, waiting_key(after.since, id_), new[0])


def _standing(instance: Instance[S]) -> tuple[str, datetime]:
    return FINISHED if instance.finished else instance.waiting_for or NOTHING, instance.since


def _count(unit: UnitOfWork, standing: str, change: int) -> None:
    key = standing.encode()
    unit.put(STANDINGS, key, (unit.get(STANDINGS, key) or 0) + change or None)
