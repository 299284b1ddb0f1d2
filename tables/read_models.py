"""Read models: one row per stream, as a projection makes it."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from app.kernel import Projection
from app.runtime.table import Table

R = TypeVar("R")


class Projected(msgspec.Struct, Generic[R], frozen=True):
    """A read model's row and the version of the last event in it. A removed row keeps its version."""

    version: int
    row: R | None


def read_model_of(projection: Projection[R]) -> Table[Projected[R]]:
    """The table of one projection."""
    return Table(projection.name, Projected[projection.row])  # type: ignore[name-defined]
