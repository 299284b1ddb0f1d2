"""What every checker is: it takes raw records, one after the other, and keeps the books of one or a few invariants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from app.audit.findings import Findings
from app.audit.ledger import Ledger
from app.audit.records import Kind, Seen


class Checker(Protocol):
    """Takes the records of its kinds. Topics are read side by side: what belongs together may come in any order."""

    kinds: frozenset[Kind]

    @property
    def findings(self) -> Sequence[Findings]:
        """The books of its invariants."""
        ...

    def take(self, seen: Seen) -> None:
        """The next record of one partition."""
        ...


@dataclass
class Shared:
    """What several checkers must know: which messages there are, and which logs have lost their beginning."""

    commands: Ledger = field(default_factory=Ledger)
    events: Ledger = field(default_factory=Ledger)
    parked: dict[tuple[str, bytes], int] = field(default_factory=dict)
    """(agent, key) of sequences that lie in the dead letters, from the engine's own rows."""
    horizons: dict[tuple[str, int], int] = field(default_factory=dict)
    """(topic, partition) → time of its first record, in ms, where retention has deleted older ones."""

    def remembers(self, topic: str, partition: int, timestamp_ms: int) -> bool:
        """Whether what was written to the partition at that time is there still."""
        return timestamp_ms > self.horizons.get((topic, partition), -1)

    def is_parked(self, agent: str, key: str) -> bool:
        """Whether the key's sequence lies in the agent's dead letters."""
        return (agent, key.encode()) in self.parked

    def parks_any(self, *agents: str) -> bool:
        """Whether any key's does, in any of the agents."""
        return any(agent in agents for agent, _ in self.parked)
