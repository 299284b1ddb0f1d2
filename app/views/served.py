"""What the views serve, as the catalogue names it."""

from __future__ import annotations

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
    """One read model, the agent that maintains it, and whose events it is made of."""

    projection: Projection[Any]
    projecting: str
    of: ServedAggregate


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
