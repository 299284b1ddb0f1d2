"""The simulated fleet: a thousand seeds without a broken promise, and the same again for the same seed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from simulation.fleet import play
from simulation.running import simulate
from simulation.scene import scene_of

SEEDS = 1_000
SAME = (3, 17, 42, 111, 127)


@pytest.mark.timeout(600)
def test_a_thousand_seeds_break_no_promise() -> None:
    tally = simulate(0, SEEDS, tell=False)
    failed = [f"seed {played.scene.seed}: {played.violations[0]}" for played in tally.failed]
    assert not failed, "\n".join([*failed, "replay with: make simulate FIRST=<seed> SEEDS=1"])
    assert tally.seeds == SEEDS
    assert tally.crashes > SEEDS / 2
    assert min(tally.faults.values()) > 0


def traces_elsewhere(hash_seed: str) -> str:
    """The traces in a process of its own, whose hashes are others."""
    code = (
        "from simulation.fleet import play; from simulation.scene import scene_of; "
        f"print(*(f'{{play(scene_of(seed)).trace:08x}}' for seed in {SAME}))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()


def test_the_same_seed_is_the_same_simulation_in_every_process() -> None:
    here = " ".join(f"{play(scene_of(seed)).trace:08x}" for seed in SAME)
    again = " ".join(f"{play(scene_of(seed)).trace:08x}" for seed in SAME)
    assert here == again == traces_elsewhere("1") == traces_elsewhere("2")


def test_other_seeds_are_other_simulations() -> None:
    assert len({play(scene_of(seed)).trace for seed in SAME}) == len(SAME)
