"""The soak's verdict can fail: what grows is not flat."""

from __future__ import annotations

import pytest

from bench.soak import Minute, verdict


def minutes(memory_mb: float = 0.0, handles: int = 0, p50_ms: float = 0.0) -> list[Minute]:
    """Nine minutes in which something grows by so much each."""
    return [
        Minute(n, 9_000, 300 + n * memory_mb, 500 + n * handles, 30.0, 20 + n * p50_ms, 40.0, 60.0, 0) for n in range(9)
    ]


def test_steady_is_flat() -> None:
    assert verdict(minutes())["flat"]


@pytest.mark.parametrize("growing", [minutes(memory_mb=15), minutes(handles=8), minutes(p50_ms=20)])
def test_growing_is_not(growing: list[Minute]) -> None:
    assert not verdict(growing)["flat"]


def test_the_first_third_is_for_warming_up() -> None:
    warm = [Minute(n, 9_000, 200.0 if n < 3 else 400.0, 500, 30.0, 20.0, 40.0, 60.0, 0) for n in range(9)]
    assert verdict(warm)["flat"]
