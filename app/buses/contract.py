"""The contract of every bus: what may be relied on, whichever adapter is behind it.

::

                  publish ─────────────┐
                  publish_in_sequence ─┤        ┌─▶ handler (every subscription without a group hears everything)
                                       ▼        │
                                      bus ──────┼─▶ handler ┐
                                                └─▶ handler ┴ one group: each event is handled by one of them

What holds for all of them:

- **Order.** Events with the same ordering key reach a subscription in the order in which they were published, and one
  is handled to its end before the next begins. Events with different keys are handled at the same time. `publish` takes
  each event's stream as its key; `publish_in_sequence` gives all of its events one key, whatever their streams are.
- **Failures.** A handler that raises, or takes longer than `HANDLER_TIMEOUT_S`, is counted and reported to the place
  that the bus was made with. Nothing is swallowed, and every other handler and event goes on.
- **Publishing.** `publish` returns when the bus has the events; where it cannot take them within `PUBLISH_TIMEOUT_S`
  it raises `BusUnavailable`. It never waits for handlers.
- **Outages.** `start` returns at once: the bus connects, and connects again, by itself. `listening` says whether it
  hears. A subscription hears what is published from the time on at which it began to listen.
- **Limits.** Every buffer has one. What a bus drops is counted in `stats.dropped`.

What differs:

- **memory** reaches this process only. At most once: what waits when the process ends is lost. A subscription that
  cannot keep up loses its oldest waiting events, counted.
- **redis** reaches every process. At most once: pub/sub keeps nothing, so what is published in an outage is not heard
  after it. A subscription that cannot keep up loses its oldest waiting events, counted.
- **kafka** reaches every process. With a group at least once: offsets are committed after the handler. Without one at
  most once. A subscription that cannot keep up falls behind in the log, and loses nothing while the topic keeps it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from app.buses.event import BusEvent
from app.kernel.errors import IllegalTransition

log = logging.getLogger(__name__)

HANDLER_TIMEOUT_S = 30.0
PUBLISH_TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 5.0
PARALLEL_MAX = 16
"""Handlers that one subscription runs at the same time."""
WAITING_MAX = 10_000
"""Events that wait for one subscription's handlers."""

Handler = Callable[[BusEvent], Awaitable[None]]


@dataclass(frozen=True)
class Failure:
    """What a handler did not do, after `attempts`: for the place that the bus reports to."""

    subscription: str
    event: BusEvent
    error: Exception
    attempts: int = 1


Report = Callable[[Failure], None]


def report_to_log(failure: Failure) -> None:
    """Where failures go unless the bus was given another place."""
    log.error(
        "%s could not handle %s %s of %s, tried %d times",
        failure.subscription,
        failure.event.type,
        failure.event.id,
        failure.event.stream_id,
        failure.attempts,
        exc_info=failure.error,
    )


def tell(report: Report, failure: Failure) -> None:
    """Report a failure to a place that may have one of its own: that stops nothing either."""
    try:
        report(failure)
    except Exception:
        log.exception("%s: the failure could not be reported: %s", failure.subscription, failure.error)


@dataclass
class BusStats:
    """What a bus counts, since it was made."""

    published: int = 0
    handled: int = 0
    failed: int = 0
    dropped: int = 0
    dead_lettered: int = 0
    reconnects: int = 0


class EventBus(Protocol):
    """A bus. Subscribe first, then start; used in one event loop."""

    stats: BusStats

    @property
    def listening(self) -> bool:
        """Whether every subscription hears what is published now."""

    def subscribe(self, handler: Handler, types: Iterable[str] = (), *, group: str | None = None) -> None:
        """Hear events of these types (of all, where none is named), alone or as one of a group."""

    async def publish(self, *events: BusEvent) -> None:
        """Tell of events, those of one stream in order."""

    async def publish_in_sequence(self, events: Sequence[BusEvent], key: str | None = None) -> None:
        """Tell of events so that all are handled in this order. `key` is by default the first one's stream."""

    async def start(self) -> None:
        """Begin to connect and to listen."""

    async def stop(self) -> None:
        """Hear nothing more, let running handlers end within `STOP_TIMEOUT_S`, let the connections go."""


@dataclass(frozen=True)
class Subscription:
    """One handler, and what it wants to hear."""

    name: str
    handler: Handler
    types: frozenset[str] = frozenset()
    group: str | None = None

    def wants(self, event: BusEvent) -> bool:
        """Whether the event is of one of the types."""
        return not self.types or event.type in self.types


class _Phase(StrEnum):
    NEW = "new"
    STARTED = "started"
    STOPPED = "stopped"


class Subscriptions:
    """A bus's subscriptions, and its life: `NEW` (subscribe) ──▶ `STARTED` (publish) ──▶ `STOPPED`."""

    def __init__(self) -> None:
        self._all: list[Subscription] = []
        self._phase = _Phase.NEW

    def add(self, handler: Handler, types: Iterable[str], group: str | None) -> None:
        """Add one; a bus that has started takes none."""
        self._must_be(_Phase.NEW, "subscribe before the bus is started")
        name = getattr(handler, "__qualname__", type(handler).__qualname__)
        self._all.append(Subscription(name if group is None else f"{group}: {name}", handler, frozenset(types), group))

    def begin(self) -> Sequence[Subscription]:
        """The bus starts."""
        self._must_be(_Phase.NEW, "a bus is started once")
        self._phase = _Phase.STARTED
        return tuple(self._all)

    def check_started(self) -> None:
        """Raise where the bus does not run."""
        self._must_be(_Phase.STARTED, "publish while the bus runs")

    def end(self) -> bool:
        """The bus stops; whether it ran."""
        ran, self._phase = self._phase is _Phase.STARTED, _Phase.STOPPED
        return ran

    def _must_be(self, phase: _Phase, otherwise: str) -> None:
        if self._phase is not phase:
            raise IllegalTransition(f"{otherwise}: it is {self._phase}")
