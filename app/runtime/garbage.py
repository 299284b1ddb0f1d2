"""The garbage collector, as folding needs it."""

from __future__ import annotations

import gc

YOUNG_OBJECTS = 100_000
"""Folding makes many short-lived objects and hardly any cycles: Python's default of 700 costs a quarter of the CPU."""


def calm_the_garbage_collector() -> None:
    """Call it once, when everything is imported and made."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 50, 1_000)
