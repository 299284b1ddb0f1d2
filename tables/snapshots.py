"""Snapshots: aggregate id → its state at its newest version, so that nothing has to be replayed to decide."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

from app.kernel import Aggregate
from app.runtime.table import Table
from app.runtime.unit import UnitOfWork

S = TypeVar("S")


class Snapshot(msgspec.Struct, Generic[S], frozen=True):
    """The state after the event of that version."""

    version: int
    state: S


def snapshots_of(aggregate: Aggregate[S, Any, Any]) -> Table[Snapshot[S]]:
    """The table of one kind of aggregate's snapshots."""
    return Table("snapshots", Snapshot[aggregate.state_type])  # type: ignore[name-defined]


def keep_newer(unit: UnitOfWork, table: Table[Snapshot[S]], key: bytes, snapshot: Snapshot[S]) -> None:
    """Put the snapshot, unless the one that is there is as new or newer."""
    before = unit.get(table, key)
    if before is None or before.version < snapshot.version:
        unit.put(table, key, snapshot)
