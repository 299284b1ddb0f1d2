"""What the views serve, as the catalogue names it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from app.kernel import Aggregate, Chain, Projection, Window


@dataclass(frozen=True)
class ServedAggregate:
    """One kind of aggregate, the agent that decides for it and the one that indexes its events."""

    aggregate: Aggregate[Any, Any, Any]
    deciding: str
    indexing: str


@dataclass(frozen=True)
class ServedReadModel:
    """One read model, whose events it is made of, and the agents of each of its generations.

    `agent_of(generation)` has the rows, `agents_of(generation)` are all that lead to them.
    """

    projection: Projection[Any]
    of: ServedAggregate
    agent_of: Callable[[int], str]
    agents_of: Callable[[int], Sequence[str]]


@dataclass(frozen=True)
class ServedChain:
    """One chain and the agent that runs its instances."""

    chain: Chain[Any]
    chaining: str


@dataclass(frozen=True)
class ServedWindow:
    """One window and the agent that counts for it."""

    window: Window[Any]
    windowing: str
