"""A chain (a process manager) follows events of one or more aggregates, and sends the next commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Generic, TypeVar

from app.kernel.aggregate import Aggregate
from app.kernel.envelope import Envelope
from app.kernel.messages import Command, Event

S = TypeVar("S")


@dataclass(frozen=True)
class Step(Generic[S]):
    """What an instance of a chain does next.

    `send` are commands, each on its way to its own aggregate. `timers` sets (from the time of the event on) or, with
    `None`, cancels timers by name. `waiting_for` says in a few words what must come next; `finished` that nothing must.
    """

    state: S
    send: Sequence[Command] = ()
    timers: Mapping[str, timedelta | None] = field(default_factory=dict)
    waiting_for: str = ""
    finished: bool = False


@dataclass(frozen=True)
class Chain(Generic[S]):
    """One kind of process. Its functions are pure: a replay leads to the same commands, with the same ids.

    `home` is the aggregate whose ids are the instances' ids, `follows` are others whose events matter.
    `instance(event)` gives the id of the instance that an event belongs to, or `None`. `react(state, envelope)` is
    called for each of its events, in the order in which they come in; events of different aggregates may overtake each
    other. `time_out(state, name)` is called once when a timer is due.
    """

    name: str
    initial: S
    home: Aggregate[Any, Any, Any]
    follows: tuple[Aggregate[Any, Any, Any], ...]
    instance: Callable[[Event], str | None]
    react: Callable[[S, Envelope[Any]], Step[S]]
    time_out: Callable[[S, str], Step[S]]

    @property
    def state_type(self) -> type[S]:
        """The type of the state, as rows are decoded to it."""
        return type(self.initial)
