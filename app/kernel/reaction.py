"""The simple chain: when this happened, then do that. No state, no timers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from app.kernel.messages import Command, Event

E = TypeVar("E", bound=Event)


@dataclass(frozen=True)
class Reaction:
    """For each event of a type, the commands that follow from it alone. `name` is written into topic names."""

    name: str
    event: type[Event]
    commands: Callable[[Any], Sequence[Command]]


@dataclass(frozen=True)
class When(Generic[E]):
    """The first half of a sentence: see `when`."""

    event: type[E]

    def then(self, name: str, commands: Callable[[E], Sequence[Command]]) -> Reaction:
        """The second half: what follows, under a name of lower-case words and hyphens."""
        return Reaction(name, self.event, commands)


def when(event: type[E]) -> When[E]:
    """`when(OrderShipped).then("thank", lambda shipped: [ThankCustomer(shipped.customer_id)])`"""
    return When(event)
