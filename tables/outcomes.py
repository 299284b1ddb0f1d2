"""Outcomes: command id → what became of it. A repeated command is recognised here, and gets its first answer."""

from __future__ import annotations

from app.kernel import Outcome
from app.runtime.table import Table

OUTCOMES: Table[Outcome] = Table("outcomes", Outcome)
