"""Shrinking: from a scene that breaks a promise to the shortest one found that still breaks the same.

Delta debugging over what is sent and what is injected: ever smaller parts are left out, and stay out where the promise
is broken without them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TypeAlias

from simulation.faults import Fault
from simulation.fleet import Played, play
from simulation.scene import Scene
from simulation.workload import Sent

Part: TypeAlias = Sent | Fault

PLAYS_MAX = 600


class Shrinking:
    """One attempt, bounded in plays and seconds."""

    def __init__(self, scene: Scene, invariant: str, *, seconds_max: float = 60.0) -> None:
        self._scene = scene
        self._invariant = invariant
        self._plays = 0
        self._until_s = time.monotonic() + seconds_max

    def shortest(self) -> Scene:
        """The shortest scene found. It need not be the shortest that there is."""
        parts: list[Part] = [*self._scene.faults, *self._scene.sent]
        size = max(1, len(parts) // 2)
        while True:
            smaller = self._without_some(parts, size)
            if smaller is not None:
                parts = smaller
                size = min(size, max(1, len(parts) // 2))
            elif size > 1:
                size = max(1, size // 2)
            else:
                return self._of(parts)

    def _without_some(self, parts: Sequence[Part], size: int) -> list[Part] | None:
        for start in range(0, len(parts), size):
            fewer = [*parts[:start], *parts[start + size :]]
            if self._spent:
                return None
            if self._breaks(fewer):
                return fewer
        return None

    @property
    def _spent(self) -> bool:
        return self._plays >= PLAYS_MAX or time.monotonic() > self._until_s

    def _breaks(self, parts: Sequence[Part]) -> bool:
        self._plays += 1
        played = play(self._of(parts))
        return any(violation.invariant == self._invariant for violation in played.violations)

    def _of(self, parts: Sequence[Part]) -> Scene:
        sent = tuple(part for part in parts if isinstance(part, Sent))
        return self._scene.only(sent, tuple(part for part in parts if isinstance(part, Fault)))


def shrink(played: Played, *, seconds_max: float = 60.0) -> Scene:
    """The shortest scene found that breaks the first promise which this one broke."""
    return Shrinking(played.scene, played.violations[0].invariant, seconds_max=seconds_max).shortest()


def indices(whole: Scene, part: Scene) -> tuple[list[int], list[int]]:
    """Which of the whole's records and faults are in the part: what a replay is told."""
    return _indices(whole.sent, part.sent), _indices(whole.faults, part.faults)


def _indices(whole: Sequence[Part], part: Sequence[Part]) -> list[int]:
    found, left = [], list(part)
    for number, one in enumerate(whole):
        if left and one in left:
            left.remove(one)
            found.append(number)
    return found
