"""Snapshots: aggregate id → its state at its newest version, so that nothing has to be replayed to decide."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

from app.kernel import Aggregate
from app.runtime.table import Table

S = TypeVar("S")


class Snapshot(msgspec.Struct, Generic[S], frozen=True):
    """The state after the event of that version."""

    version: int
    state: S


def snapshots_of(aggregate: Aggregate[S, Any, Any]) -> Table[Snapshot[S]]:
    """The table of one kind of aggregate's snapshots."""
    return Table("snapshots", Snapshot[aggregate.state_type])  # type: ignore[name-defined]
