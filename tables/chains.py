"""Chains: the instances by id, and their timers by the moment when they are due."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Generic, TypeVar

import msgspec

from app.kernel import Chain
from app.runtime.table import Table

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


def instances_of(chain: Chain[S]) -> Table[Instance[S]]:
    """The table of one chain's instances."""
    return Table("instances", Instance[chain.state_type])  # type: ignore[name-defined]


TIMERS: Table[datetime] = Table("timers", datetime)
"""Due timers come first. The row repeats the due time: a timer that was set anew has another key."""

_MS_BYTES = 8


def timer_key(due: datetime, name: str, instance: str) -> bytes:
    """When, which, whose."""
    return int(due.timestamp() * 1000).to_bytes(_MS_BYTES, "big") + name.encode() + b"\x00" + instance.encode()


def timer_of(key: bytes) -> tuple[datetime, str, str]:
    """What a key says."""
    due_ms = int.from_bytes(key[:_MS_BYTES], "big")
    name, _, instance = key[_MS_BYTES:].partition(b"\x00")
    return datetime.fromtimestamp(due_ms / 1000, UTC), name.decode(), instance.decode()
