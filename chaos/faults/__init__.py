"""The faults, by kind: each one a value with what it hits, how long it lasts, and how it is made and healed."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Literal

from app.kernel.errors import FleetError
from chaos.load import Load
from chaos.stage import Stage

Hits = Literal["workers", "brokers", "load", "bus"]
"""What faults hit. Two that hit the same never overlap: a majority of brokers, and a worker to recover, are left."""


class NotHere(FleetError):
    """This fault cannot be made on this machine, or in this run. The text says why; the run goes on without it."""


@dataclass
class Mark:
    """What a fault tells of itself while it happens. `since_s`: recovery counts from here, if not from the healing."""

    now: Callable[[], float]
    what: str = ""
    since_s: float | None = None

    def struck(self, what: str) -> None:
        """It has happened, and recovery counts from now on: a process was killed."""
        self.what, self.since_s = what, self.now()


@dataclass(frozen=True)
class Scene:
    """What a fault may touch."""

    stage: Stage
    load: Load
    lots: random.Random
    mark: Mark


Make = Callable[[Scene], AbstractAsyncContextManager[None]]
"""Entering makes the fault, leaving heals it."""


@dataclass(frozen=True)
class Fault:
    """One kind of fault. `lasts_s`: from when to when its length is drawn; 0 where it heals itself."""

    kind: str
    hits: frozenset[Hits]
    make: Make = field(repr=False)
    lasts_s: tuple[float, float] = (0.0, 0.0)


FAULTS: dict[str, Fault] = {}
"""Every kind, in the order of their definition."""


def fault(kind: str, *hits: Hits, lasts_s: tuple[float, float] = (0.0, 0.0)) -> Callable[[Make], Make]:
    """Register a kind of fault."""

    def register(make: Make) -> Make:
        FAULTS[kind] = Fault(kind, frozenset(hits), make, lasts_s)
        return make

    return register
