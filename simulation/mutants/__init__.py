"""Mutants: the engine with one safeguard switched off. Each must be noticed. They are grouped by what they break."""

from __future__ import annotations

from simulation.mutants.commands import COMMANDS
from simulation.mutants.events import EVENTS
from simulation.mutants.liveness import LIVENESS
from simulation.mutants.mutant import Change, Mutant, MutantOutdated
from simulation.mutants.opening import OPENING
from simulation.mutants.positions import POSITIONS
from simulation.mutants.rows import ROWS
from simulation.mutants.transactions import TRANSACTIONS

__all__ = ["MUTANTS", "Change", "Mutant", "MutantOutdated"]

MUTANTS: tuple[Mutant, ...] = (
    *OPENING,
    *POSITIONS,
    *TRANSACTIONS,
    *ROWS,
    *LIVENESS,
    *COMMANDS,
    *EVENTS,
)
