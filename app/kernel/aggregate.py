"""An aggregate is an initial state and two pure functions: `decide` and `evolve`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, get_args, get_type_hints

from app.kernel.messages import Command, Event, Rejected, check_message_type
from app.kernel.upcasting import Upcaster, check_upcasters

S = TypeVar("S")
C = TypeVar("C", bound=Command)
E = TypeVar("E", bound=Event)


@dataclass(frozen=True)
class Aggregate(Generic[S, C, E]):
    """The consistency boundary of one kind of thing.

    `decide(state, command)` gives the events that the command leads to, or `Rejected`; no events means that it was
    already so. `evolve(state, event)` gives the next state and must accept every event that was ever decided. Which
    commands and events there are is read from the annotations of the two functions.

    `category` names the topics (`orders.commands`, `orders.events`, …); it defaults to the name and an "s".

    `upcasters` are for versions of commands and events that nobody writes any more, but that lie in the topics.
    """

    name: str
    initial: S
    decide: Callable[[S, C], Sequence[E] | Rejected]
    evolve: Callable[[S, E], S]
    category: str = ""
    upcasters: tuple[Upcaster, ...] = ()
    commands: tuple[type[C], ...] = field(init=False)
    events: tuple[type[E], ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "category", self.category or f"{self.name}s")
        object.__setattr__(self, "commands", _second_parameter(self.decide))
        object.__setattr__(self, "events", _second_parameter(self.evolve))
        for kind in (*self.commands, *self.events):
            check_message_type(kind)
        check_upcasters((*self.commands, *self.events), self.upcasters)

    @property
    def state_type(self) -> type[S]:
        """The type of the state, as rows are decoded to it."""
        return type(self.initial)

    def fold(self, events: Iterable[E], state: S | None = None) -> S:
        """The state after `events`, from `state` or from the beginning."""
        return functools.reduce(self.evolve, events, self.initial if state is None else state)


def _second_parameter(function: Callable[..., Any]) -> tuple[type[Any], ...]:
    hints = get_type_hints(function)
    hints.pop("return", None)
    if len(hints) != 2:
        raise TypeError(f"{function.__qualname__} needs two annotated parameters: the state and the message")
    annotation = list(hints.values())[1]
    return get_args(annotation) or (annotation,)
