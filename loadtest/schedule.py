"""When each command is sent: an open model, fixed in advance, whatever the fleet answers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.customers import Step

ORDERS_MAX = 500_000
THINK_S = 0.25


@dataclass(frozen=True)
class Due:
    """A step and when it is to be sent, in seconds after the start."""

    at_s: float
    step: Step


def schedule(
    scripts: Sequence[Sequence[Step]], rate: float, *, think_s: float = THINK_S, poisson_seed: int | None = None
) -> list[Due]:
    """Orders begin `rate` a second, evenly or (with a seed) as a Poisson process; their steps are `think_s` apart."""
    lots = None if poisson_seed is None else random.Random(poisson_seed)
    due: list[Due] = []
    start_s = 0.0
    for steps in scripts:
        due += [Due(start_s + number * think_s, step) for number, step in enumerate(steps)]
        start_s += 1 / rate if lots is None else lots.expovariate(rate)
    return sorted(due, key=lambda one: one.at_s)
