"""Mutants of rows: a unit of work, what is deleted, and what is restored of it."""

from __future__ import annotations

from simulation.mutants.mutant import Mutant, mutant

ROWS: tuple[Mutant, ...] = (
    mutant(
        "no overlay",
        "the unit of work: later records do not see what earlier ones have put",
        "app.runtime.unit:UnitOfWork._change",
        "self._rows[full] = row",
        "self._rows.setdefault(full, row)",
    ),
    mutant(
        "deletes are not written",
        "tombstones: a deleted row stays",
        "app.runtime.unit:UnitOfWork.changes",
        "for full, table in self._dirty.items():",
        "for full, table in self._dirty.items():\n        if rows[full] is None: continue",
    ),
    mutant(
        "restored tombstones are ignored",
        "tombstones: a restore keeps deleted rows",
        "app.runtime.replay:Replay._rows",
        "if record.key is not None",
        "if record.key is not None and record.value is not None",
    ),
)
