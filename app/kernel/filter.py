"""A filter picks the events that somebody should be told of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from app.kernel.aggregate import Aggregate
from app.kernel.messages import Event


@dataclass(frozen=True)
class Known:
    """The other aggregate that a filter must know of: its own copy is kept from that aggregate's events.

    `id_of(event)` is the other one's id. What the copy says is as new as the events that have come in: an event may be
    judged a moment before a change that was made shortly before it.
    """

    aggregate: Aggregate[Any, Any, Any]
    id_of: Callable[[Any], str]


@dataclass(frozen=True)
class Filter:
    """Picks events of one type: those for which `accepts(event, state)` is true.

    `state` is that of the `knows` aggregate, and `None` where the filter knows none.
    """

    name: str
    of: Aggregate[Any, Any, Any]
    event: type[Event]
    accepts: Callable[[Any, Any], bool]
    knows: Known | None = None
