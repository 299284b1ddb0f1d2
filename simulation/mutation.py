"""The mutation gate: every safeguard is switched off in turn, and the simulation must go red."""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import click

from simulation.fleet import play
from simulation.mutants import MUTANTS, Mutant
from simulation.scene import scene_of

SEEDS_MAX = 600


@dataclass(frozen=True)
class Verdict:
    """After how many seeds a mutant was noticed, and by which invariant; `None` where it never was."""

    mutant: Mutant
    seeds: int
    invariant: str | None

    def __str__(self) -> str:
        caught = f"seed {self.seeds:>3}  {self.invariant}" if self.invariant else f"NOT NOTICED in {self.seeds} seeds"
        return f"{self.mutant.name:<28} {caught}"


def judge(mutant: Mutant, first: int = 0, seeds_max: int = SEEDS_MAX) -> Verdict:
    """Play seeds with the mutant until a promise is broken."""
    with mutant.applied():
        for number in range(seeds_max):
            played = play(scene_of(first + number))
            if played.violations:
                return Verdict(mutant, number + 1, played.violations[0].invariant)
            if number % 20 == 19:
                gc.collect()
    return Verdict(mutant, seeds_max, None)


def judge_all(mutants: Sequence[Mutant], first: int = 0, seeds_max: int = SEEDS_MAX) -> list[Verdict]:
    """Judge all of them, over as many processes as there are cores."""
    with multiprocessing.get_context("spawn").Pool(min(len(mutants), os.cpu_count() or 1)) as pool:
        return pool.starmap(judge, [(mutant, first, seeds_max) for mutant in mutants], chunksize=1)


@click.command()
@click.option("--seeds", default=SEEDS_MAX, show_default=True, help="How many seeds a mutant may survive.")
@click.option("--first", default=0, show_default=True, help="The first seed.")
@click.option("--only", default="", help="Only mutants whose names contain this.")
def main(seeds: int, first: int, only: str) -> None:
    """Switch safeguards off, one at a time. Exit code 1 where one is not missed."""
    chosen = [mutant for mutant in MUTANTS if only in mutant.name]
    verdicts = judge_all(chosen, first, seeds)
    for verdict in verdicts:
        print(verdict)
        print(f"    off: {verdict.mutant.disables}")
    survivors = sum(verdict.invariant is None for verdict in verdicts)
    print(f"mutants {len(verdicts)}, not noticed {survivors}")
    sys.exit(1 if survivors else 0)


if __name__ == "__main__":
    main()
