"""An unruly producer's order: some records twice, all of them shuffled within a short distance."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

DUPLICATES_SHARE = 0.2
SHUFFLE_WITHIN = 10


def unruly(
    records: Sequence[T], *, seed: int, duplicates: float = DUPLICATES_SHARE, within: int = SHUFFLE_WITHIN
) -> list[T]:
    """The records as such a producer sends them: none is lost, and none is further than `within` from its place.

    A share of `duplicates` of them comes a second time. The same seed leads to the same order.
    """
    lots = random.Random(seed)
    repeated = lots.sample(range(len(records)), round(len(records) * duplicates))
    places = sorted([*range(len(records)), *repeated])
    return [records[place] for place in sorted(places, key=lambda place: place + lots.uniform(0, within))]
