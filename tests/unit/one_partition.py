"""An agent in one partition, round by round: what it is given, what it emits, and its rows."""

from __future__ import annotations

from typing import TypeVar

from app.runtime.agent import Agent
from app.runtime.ports import Progress, Record
from app.runtime.table import Table
from app.runtime.unit import Emitted, UnitOfWork
from tables.memory import MemoryStores

R = TypeVar("R")


class OnePartition:
    """The agent's first partition. What is taken together is one round, written at once."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.store = MemoryStores()(agent.name, 0)
        self.counts: dict[str, int] = {}
        self.emitted: list[Emitted] = []
        self._rounds = 0

    def take(self, *records: Record) -> list[Emitted]:
        """Fold a round, and write it. What it emits."""
        unit = UnitOfWork(0, self.store)
        for record in records:
            self.agent.fold(unit, record, self.agent.decode_of(record.topic)(record))
        self._rounds += 1
        self.store.write(dict(unit.changes()), Progress(self._rounds, "log", 1))
        self.emitted += unit.emitted
        for name, n in unit.counts.items():
            self.counts[name] = self.counts.get(name, 0) + n
        return unit.emitted

    def rows(self, table: Table[R]) -> dict[bytes, R]:
        """All rows of a table, by their keys without its prefix."""
        found = self.store.scan(table.prefix, limit=10_000)
        return {key.removeprefix(table.prefix): table.decode(raw) for key, raw in found}
