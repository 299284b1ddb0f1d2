"""When which fault happens: drawn from a seed, so that the same seed plays the same piece."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from chaos.faults import Fault, Hits

FIRST_S = 5.0
EVERY_S = (5.0, 15.0)
QUIET_EVERY, QUIET_S = (4, 6), (15.0, 20.0)
"""After so many faults a quiet spell: what is only seen when everything has calmed down must be seen as well."""
APART_S: dict[Hits, float] = {"workers": 5.0, "brokers": 10.0, "load": 1.0, "bus": 1.0}
"""Between the healing of a fault and the next that hits the same."""


@dataclass(frozen=True)
class Strike:
    """One fault to come. What it hits, and how, is drawn from its own seed when it is made."""

    at_s: float
    kind: str
    lasts_s: float
    seed: int


def plan(seed: int, seconds: float, faults: Mapping[str, Fault]) -> list[Strike]:
    """The strikes of a run. Every kind comes once before any comes twice, as far as the time allows."""
    lots = random.Random(f"faults {seed}")
    free_s: dict[Hits, float] = dict.fromkeys(APART_S, 0.0)
    strikes: list[Strike] = []
    bag: list[str] = []
    at_s, calm_after = FIRST_S, lots.randint(*QUIET_EVERY)
    while at_s < seconds and faults:
        if not bag:
            bag = lots.sample(sorted(faults), len(faults))
        kind = next((kind for kind in bag if _fits(faults[kind], at_s, free_s, seconds)), None)
        if kind is not None:
            bag.remove(kind)
            fault = faults[kind]
            lasts_s = round(min(lots.uniform(*fault.lasts_s), max(0.0, seconds - at_s)), 1)
            for hit in fault.hits:
                free_s[hit] = at_s + lasts_s + APART_S[hit]
            strikes.append(Strike(round(at_s, 1), kind, lasts_s, lots.getrandbits(32)))
        calm = len(strikes) >= calm_after
        at_s += lots.uniform(*(QUIET_S if calm else EVERY_S))
        if calm:
            calm_after += lots.randint(*QUIET_EVERY)
    return strikes


def _fits(fault: Fault, at_s: float, free_s: Mapping[Hits, float], seconds: float) -> bool:
    return all(free_s[hit] <= at_s for hit in fault.hits) and at_s + fault.lasts_s[0] <= seconds
