"""A window folds the events of a span of event time into one row, for each key or over all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any, Generic, NamedTuple, TypeVar, assert_never

import msgspec

from app.kernel.errors import ConfigurationRefused
from app.kernel.messages import Event

R = TypeVar("R")

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
_DAY_MS = 86_400_000
LATEST_MS = (datetime(9000, 1, 1, tzinfo=UTC) - EPOCH) // MILLISECOND
"""No time is reckoned with that lies beyond: something may still be added to it."""


@dataclass(frozen=True)
class Tumbling:
    """Spans of `size`, side by side: every event is in one. They begin at full multiples of `size` since 1970, UTC."""

    size: timedelta


@dataclass(frozen=True)
class Hopping:
    """Spans of `size` that begin every `hop`: every event is in size ÷ hop of them."""

    size: timedelta
    hop: timedelta


@dataclass(frozen=True)
class Sliding:
    """The last `size` of time, asked for at any moment, exact in steps of `resolution`. It never ends: no final value.

    With a key, the figure over all keys is kept beside those of each key.
    """

    size: timedelta
    resolution: timedelta = timedelta(seconds=1)


@dataclass(frozen=True)
class Session:
    """A key's events with less than `gap` between one and the next; it ends `gap` after its last event."""

    gap: timedelta


Kind = Tumbling | Hopping | Sliding | Session


@dataclass(frozen=True)
class Fold(Generic[R]):
    """How events become a row. `add(row, event)` takes one in; `merge` unites the rows of two sets of events.

    Events of one window come in any order and lie in several partitions, so both must not depend on the order. The row
    is a `msgspec.Struct`; its fields are written into the window's final value.
    """

    initial: R
    add: Callable[[R, Any], R]
    merge: Callable[[R, R], R]


class Figures(msgspec.Struct, frozen=True):
    """How many events, and the sum of a value of theirs."""

    count: int = 0
    total: Decimal = Decimal(0)


def total_of(value: Callable[[Any], Decimal]) -> Fold[Figures]:
    """Count events and sum up a value of theirs."""
    return Fold(
        Figures(),
        lambda row, event: Figures(row.count + 1, row.total + value(event)),
        lambda a, b: Figures(a.count + b.count, a.total + b.total),
    )


COUNT = Fold(
    Figures(),
    lambda row, _: Figures(row.count + 1, row.total),
    lambda a, b: Figures(a.count + b.count, a.total + b.total),
)
"""Count events."""


def over_all(_: Any) -> None:
    """The key of a window without keys."""


class Span(NamedTuple):
    """From `start` up to and without `end`, and the watermark at which the window takes nothing more. Ms since 1970."""

    start: int
    end: int
    closes: int


@dataclass(frozen=True)
class Window(Generic[R]):
    """One window over the events of a category: those of the types `events`, each at `key(event)`; `None` is over all.

    Time is the events' own. A partition's watermark is the latest time that was seen there. A window closes when the
    watermark has passed its end by `grace`: an event that comes later still is late. A partition without events for
    `idle` of the wall clock's time is idle: its watermark follows the clock, `idle` behind. Final values can be asked
    for until `keep` after their end.
    """

    name: str
    category: str
    events: tuple[type[Event], ...]
    kind: Kind
    grace: timedelta
    fold: Fold[R]
    key: Callable[[Any], str | None] = over_all
    idle: timedelta = timedelta(seconds=30)
    keep: timedelta = timedelta(hours=1)

    def __post_init__(self) -> None:
        _check(self)

    @property
    def row(self) -> type[R]:
        """The type of the rows."""
        return type(self.fold.initial)

    @property
    def keyed(self) -> bool:
        """Whether it has keys."""
        return self.key is not over_all

    @property
    def ends(self) -> bool:
        """Whether it has final values."""
        return not isinstance(self.kind, Sliding)

    @cached_property
    def step_ms(self) -> int:
        """How far the starts of two spans lie apart; of a session, 0."""
        match self.kind:
            case Tumbling(size=step) | Hopping(hop=step) | Sliding(resolution=step):
                return step // MILLISECOND
            case Session():
                return 0
            case _:
                assert_never(self.kind)

    @cached_property
    def span_ms(self) -> int:
        """How long one span is; of a session, how long it stays open after an event. A sliding window has buckets."""
        match self.kind:
            case Tumbling(size=span) | Hopping(size=span) | Sliding(resolution=span) | Session(gap=span):
                return span // MILLISECOND
            case _:
                assert_never(self.kind)

    @cached_property
    def grace_ms(self) -> int:
        """The grace."""
        return self.grace // MILLISECOND

    @cached_property
    def slides_ms(self) -> int:
        """The size of a sliding window, for so long a bucket is asked for; of others, 0."""
        return self.kind.size // MILLISECOND if isinstance(self.kind, Sliding) else 0

    @property
    def lasts_ms(self) -> int:
        """For how long after a span's end it still matters."""
        return self.grace_ms + self.slides_ms

    def spans(self, at_ms: int) -> Sequence[Span]:
        """The spans that an event of that time is in, the earliest first. Of a session: what it would be alone."""
        step, span, lasts = self.step_ms, self.span_ms, self.lasts_ms
        if not step:
            return (Span(at_ms, at_ms + span, at_ms + span + lasts),)
        last = at_ms - at_ms % step
        return [Span(start, start + span, start + span + lasts) for start in range(last - span + step, last + 1, step)]


def ms_of(time: datetime) -> int:
    """Whole milliseconds since 1970, UTC: what windows calculate with. What lies before or far beyond is put there."""
    since = time - EPOCH
    return in_reach(since.days * _DAY_MS + since.seconds * 1_000 + since.microseconds // 1_000)


def in_reach(ms: int) -> int:
    """The nearest time, in milliseconds since 1970, that can be reckoned with: whoever told it, and whatever it was."""
    return min(max(ms, 0), LATEST_MS)


def time_of(ms: int) -> datetime:
    """The time of so many milliseconds since 1970."""
    return EPOCH + ms * MILLISECOND


def _check(window: Window[Any]) -> None:
    kind = window.kind
    lengths = [*vars(kind).values(), window.idle, window.keep]
    if any(length <= timedelta() or length % MILLISECOND for length in lengths) or window.grace < timedelta():
        raise ConfigurationRefused(f"window {window.name}: times must be positive and whole milliseconds")
    if isinstance(kind, Hopping | Sliding):
        step = kind.hop if isinstance(kind, Hopping) else kind.resolution
        if kind.size % step:
            raise ConfigurationRefused(f"window {window.name}: its size must be a multiple of {step}")
    if isinstance(kind, Session) and not window.keyed:
        raise ConfigurationRefused(f"window {window.name}: sessions need a key")
    if not window.events:
        raise ConfigurationRefused(f"window {window.name} counts no type of event")
    if not issubclass(window.row, msgspec.Struct):
        raise ConfigurationRefused(f"window {window.name}: its row must be a msgspec.Struct, {window.row} is none")
    if taken := {"window", "start", "end", "key"}.intersection(window.row.__struct_fields__):
        raise ConfigurationRefused(f"window {window.name}: its row may have no field named {', '.join(sorted(taken))}")
