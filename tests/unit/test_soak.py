"""The soak's verdict can fail: what grows is not flat."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.soak import Minute, verdict


def minutes(*, memory_mb: float = 0.0, handles: int = 0, table_files: int = 0, p50_ms: float = 0.0) -> list[Minute]:
    """Nine minutes in which something grows by so much each."""
    return [
        Minute(
            n,
            9_000,
            memory_mb=300 + n * memory_mb,
            rocksdb_mb=90.0,
            handles=500 + n * handles,
            table_files=200 + n * table_files,
            cpu_percent=30.0,
            outcome_p50_ms=20 + n * p50_ms,
            outcome_p99_ms=40.0,
            view_p99_ms=60.0,
            mismatches=0,
        )
        for n in range(9)
    ]


def test_steady_is_flat() -> None:
    assert verdict(minutes())["flat"]


@pytest.mark.parametrize("growing", [minutes(memory_mb=15), minutes(handles=8), minutes(p50_ms=20)])
def test_growing_is_not(growing: list[Minute]) -> None:
    assert not verdict(growing)["flat"]


def test_files_of_the_tables_may_become_more_and_are_told() -> None:
    told = verdict(minutes(table_files=8))
    assert told["flat"]
    assert told["table_files"] == (232, 256)


def test_the_first_third_is_for_warming_up() -> None:
    steady = minutes()
    warm = [replace(one, memory_mb=200.0) if one.number < 3 else one for one in steady]
    assert verdict(warm)["flat"]
