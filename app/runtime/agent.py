"""An agent as the engine knows it: source topics, a fold, and tables of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from app.kernel.errors import ConfigurationRefused
from app.runtime.batch import Decode
from app.runtime.dead_letters import read_instruction
from app.runtime.ports import Record
from app.runtime.table import Table
from app.runtime.unit import UnitOfWork

Fold = Callable[[UnitOfWork, Record, Any], None]
"""Fold one record, with its decoded message, into the unit of work: rows, derived records, nothing else."""


@dataclass(frozen=True)
class Ticking:
    """An agent that must be told the time: by a record on `topic` every second, while its table `timers` has rows.

    With `idle`, the time is told only while no record of that source waits: silence then means that there is none.
    """

    topic: str
    timers: Table[Any]
    idle: str | None = None


@dataclass(frozen=True)
class Agent:
    """One arrow of the fleet: from source topics, by a deterministic fold, into its own tables and derived records.

    An agent with `logged=True` has a compacted changelog of its own, named after it: its rows, its source positions and
    its fences. One with `logged=False` keeps nothing that its single source topic does not say: its rows are restored
    from there, and it derives no records.

    `decode` is one for all sources, or by topic.

    `building`: it makes a generation of a read model that is not read yet, and begins behind the others.

    `undecodable` is called for a record that is no message (with the error as the message), where an agent can do
    without one; by default such a record goes to the dead letters.

    `redrive` is the source in which its dead letters come back, where it has one: see `redrivable`.

    `ahead` is the table whose row is fetched for a whole batch at once before the fold: the row of the record's key, or
    of what `ahead_key` makes of the message.
    """

    name: str
    sources: tuple[str, ...]
    decode: Decode | Mapping[str, Decode]
    fold: Fold
    tables: tuple[Table[Any], ...]
    ahead: Table[Any] | None = None
    ahead_key: Callable[[Any], bytes] | None = None
    logged: bool = True
    emits: tuple[str, ...] = field(default=())
    ticking: Ticking | None = None
    building: bool = False
    undecodable: Fold | None = None
    redrive: str = ""
    help: str = ""

    def __post_init__(self) -> None:
        if not self.sources:
            raise ConfigurationRefused(f"agent {self.name} reads no topic")
        if not self.logged and (len(self.sources) > 1 or self.emits):
            raise ConfigurationRefused(
                f"agent {self.name} has no changelog: it may read one topic and emit nothing, or set logged=True"
            )
        names = [table.name for table in self.tables]
        if len(set(names)) != len(names):
            raise ConfigurationRefused(f"agent {self.name} has two tables of one name: {names}")

    def decode_of(self, topic: str) -> Decode:
        """How the records of one source are decoded."""
        return self.decode[topic] if isinstance(self.decode, Mapping) else self.decode


def redrivable(agent: Agent, topic: str) -> Agent:
    """The agent with one more source, in which its dead letters come back. The engine reads it; the fold does not.

    One that has no changelog could not remember what has come back. It needs no redrive either: its store is rebuilt
    from its source, by whatever the code is then.
    """
    if not agent.logged:
        return agent
    decode = {source: agent.decode_of(source) for source in agent.sources} | {topic: read_instruction}
    return replace(agent, sources=(*agent.sources, topic), decode=decode, redrive=topic)
