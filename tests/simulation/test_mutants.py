"""The mutation gate: with any one safeguard off, the simulation goes red. What stays green is a missing check."""

from __future__ import annotations

import pytest

from simulation.mutants import MUTANTS, Change, MutantOutdated
from simulation.mutation import judge, judge_all


@pytest.mark.long
@pytest.mark.timeout(600)
def test_every_safeguard_is_missed_when_it_is_off() -> None:
    survivors = [str(verdict) for verdict in judge_all(MUTANTS) if verdict.invariant is None]
    assert not survivors, "\n".join(survivors)


def test_a_mutation_ends_with_its_context() -> None:
    mutant = next(mutant for mutant in MUTANTS if mutant.name == "no command ids")
    assert judge(mutant, seeds_max=5).invariant is not None
    with Change("app.runtime.rounds:Plan.take", "batch.start > at", "batch.start > at").made():
        pass
    assert judge(Mutantless, seeds_max=3).invariant is None


def test_a_mutant_of_code_that_is_gone_says_so() -> None:
    with pytest.raises(MutantOutdated, match=r"Plan\.take"), Change("app.runtime.rounds:Plan.take", "gone", "").made():
        pass


Mutantless = type(MUTANTS[0])("none", "nothing", ())
