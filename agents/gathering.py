"""inbox ─▶ gathering ─▶ finals: what the partitions know of one window becomes one final figure, once.

Each partition of the events hands over what it has of a span when its own watermark has closed it. A span's figures
come together in one partition of the inbox. They are final when every source has handed over all that it had up to
then: each is asked, and answers when it has come so far. So nothing is final too early, and nothing comes after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from app.kernel import Session, Window
from app.kernel.errors import UndecodableMessage
from app.kernel.window import MILLISECOND, time_of
from app.runtime.codec import NOT_JSON, CloudEvent
from app.runtime.ports import Record
from app.runtime.table import Table
from app.runtime.topics import Topics, partition_of
from app.runtime.unit import UnitOfWork
from tables.windows import (
    DUES,
    GATHERED,
    ONLY,
    Figure,
    Gathered,
    Sessions,
    due_key,
    due_of,
    due_prefix,
    ended_before,
    final_key,
    final_name,
    finals_of,
    gathering_of,
    session_key,
    sessions_of,
    told,
    told_type,
)

R = TypeVar("R")

FINALS_PER_RECORD = 1_000
"""More wait for the next round: it is asked for by a record."""
SWEEP_ROWS = 200
SWEEPS_PER_RETENTION = 20

_encode = msgspec.json.Encoder(decimal_format="string").encode


class Part(msgspec.Struct, Generic[R], frozen=True, tag="part"):
    """What the source partition `source` has of a span. Times in ms since 1970."""

    source: int
    start: int
    end: int
    key: str | None
    row: R


class Passed(msgspec.Struct, frozen=True, tag="passed"):
    """The source partition `source` has handed over everything that closes up to the watermark `until`."""

    source: int
    until: int


class Ask(msgspec.Struct, frozen=True, tag="ask"):
    """The inbox's partition `by` wants to know when the watermark has passed `until`."""

    by: int
    until: int


class GoOn(msgspec.Struct, frozen=True, tag="go-on"):
    """There was more to do than one record's share."""


Message = Part[Any] | Passed | Ask | GoOn


def inbox_decoder(window: Window[R]) -> Callable[[Record], Message]:
    """The message in a record of the window's inbox."""
    kind: Any = Part[window.row] | Passed | Ask | GoOn  # type: ignore[name-defined]
    decode = msgspec.json.Decoder(kind).decode

    def decode_record(record: Record) -> Message:
        try:
            message: Message = decode(record.value or b"")
        except NOT_JSON as error:
            raise UndecodableMessage(str(error)) from error
        return message

    return decode_record


class Inbox:
    """Writes to the partitions of one window's inbox."""

    def __init__(self, topic: str, partitions: int) -> None:
        self.topic = topic
        self.partitions = partitions

    def hand_over(self, unit: UnitOfWork, figure: Figure[Any]) -> None:
        """Bring a figure to where its span and key come together: a key's to one place, those over all spread out."""
        key = (str(figure.start) if figure.key is None else figure.key).encode()
        part = Part(unit.partition, figure.start, figure.end, figure.key, figure.row)
        unit.emit(self.topic, key, _encode(part), partition=partition_of(key, self.partitions))

    def tell(self, unit: UnitOfWork, partition: int, message: Passed | Ask | GoOn) -> None:
        """Tell one partition something."""
        unit.emit(self.topic, None, _encode(message), partition=partition)


class _Open(Protocol[R]):
    """The figures that are not final yet."""

    def take(self, unit: UnitOfWork, figure: Figure[R]) -> int:
        """Unite the figure with what is there; when it is due."""

    def finish(self, unit: UnitOfWork, since: int, watermark: int) -> tuple[list[Figure[R]], int]:
        """Take out what is due up to the watermark, from `since` on; and when something is due next, 0 for never."""


class Gathering(Generic[R]):
    """One window's figures on their way to be final."""

    def __init__(self, window: Window[R], topics: Topics, inbox: Inbox) -> None:
        self._window = window
        self._inbox = inbox
        self._finals_topic, self._late_topic = topics.finals(window.name), topics.late(window.name)
        self._open: _Open[R] = _OpenSessions(window) if isinstance(window.kind, Session) else _OpenSpans(window)
        self._finals, self._told = finals_of(window), told_type(window)

    def part(self, unit: UnitOfWork, record: Record, part: Part[R]) -> None:
        """Take in what a source hands over."""
        state = unit.get(GATHERED, ONLY) or Gathered()
        if part.end + self._window.lasts_ms <= state.watermark(self._inbox.partitions):
            # It lay in the dead letters while its window became final, and that is told once.
            unit.emit(self._late_topic, record.key, record.value, headers=[("window", self._window.name.encode())])
            return
        due = self._open.take(unit, Figure(part.start, part.end, part.key, part.row))
        state = msgspec.structs.replace(state, next_due=min(state.next_due or due, due))
        unit.put(GATHERED, ONLY, self._ask(unit, state))

    def passed(self, unit: UnitOfWork, passed: Passed) -> None:
        """A source has come so far."""
        state = unit.get(GATHERED, ONLY) or Gathered()
        until = max(passed.until, state.passed.get(passed.source, 0))
        asked = {number: asked for number, asked in state.asked.items() if number != passed.source}
        state = msgspec.structs.replace(state, passed=state.passed | {passed.source: until}, asked=asked)
        unit.put(GATHERED, ONLY, state)
        self.go_on(unit)

    def go_on(self, unit: UnitOfWork) -> None:
        """Make final what every source has passed."""
        state = unit.get(GATHERED, ONLY) or Gathered()
        watermark = state.watermark(self._inbox.partitions)
        if not 0 < state.next_due <= watermark:
            unit.put(GATHERED, ONLY, self._ask(unit, state))
            return
        figures, next_due = self._open.finish(unit, state.next_due, watermark)
        for figure in figures:
            self._emit(unit, figure)
            unit.put(self._finals, final_key(figure), figure)
        state = self._sweep(unit, msgspec.structs.replace(state, next_due=next_due), watermark)
        if 0 < next_due <= watermark:
            self._inbox.tell(unit, unit.partition, GoOn())
        unit.put(GATHERED, ONLY, self._ask(unit, state))

    def _ask(self, unit: UnitOfWork, state: Gathered) -> Gathered:
        """Ask every source that has not come to what is due next, once; anew where something is due before that."""
        asked = dict(state.asked)
        for number in range(self._inbox.partitions):
            waits = state.passed.get(number, 0) < state.next_due
            if waits and not 0 < asked.get(number, 0) <= state.next_due:
                asked[number] = state.next_due
                self._inbox.tell(unit, number, Ask(unit.partition, state.next_due))
        return msgspec.structs.replace(state, asked=asked)

    def _sweep(self, unit: UnitOfWork, state: Gathered, watermark: int) -> Gathered:
        """Forget finals that are older than their retention, now and then."""
        keep = self._window.keep // MILLISECOND
        if watermark < state.swept + keep // SWEEPS_PER_RETENTION:
            return state
        for key, _ in unit.scan(self._finals, ended_before(max(watermark - keep, 0)), SWEEP_ROWS):
            unit.put(self._finals, key, None)
        return msgspec.structs.replace(state, swept=watermark)

    def _emit(self, unit: UnitOfWork, figure: Figure[R]) -> None:
        key = figure.key if figure.key is not None else str(figure.start)
        name = final_name(self._window)
        wire = CloudEvent(
            f"{self._window.name}:{figure.start}:{'' if figure.key is None else figure.key}",
            name,
            f"/eventfleet/windows/{self._window.name}",
            key,
            time_of(figure.end),
            msgspec.Raw(_encode(told(self._window, figure, self._told))),
            dataschema=f"urn:eventfleet:schema:{name}",
            specversion="1.0",
        )
        unit.emit(self._finals_topic, key.encode(), _encode(wire))


class _OpenSpans(Generic[R]):
    """Of windows with fixed spans: by when they close, and key."""

    def __init__(self, window: Window[R]) -> None:
        self._table: Table[Figure[R]] = gathering_of(window)
        self._merge, self._lasts = window.fold.merge, window.lasts_ms

    def take(self, unit: UnitOfWork, figure: Figure[R]) -> int:
        """See `_Open`."""
        due = figure.end + self._lasts
        key = due_key(due, figure.key)
        before = unit.get(self._table, key)
        row = figure.row if before is None else self._merge(before.row, figure.row)
        unit.put(self._table, key, msgspec.structs.replace(figure, row=row))
        return due

    def finish(self, unit: UnitOfWork, since: int, watermark: int) -> tuple[list[Figure[R]], int]:
        """See `_Open`."""
        figures: list[Figure[R]] = []
        for key, figure in unit.scan(self._table, due_prefix(since), FINALS_PER_RECORD + 1):
            due = due_of(key)[0]
            if due > watermark or len(figures) == FINALS_PER_RECORD:
                return figures, due
            figures.append(figure)
            unit.put(self._table, key, None)
        return figures, 0


class _OpenSessions(Generic[R]):
    """Of sessions: those of a key in one row, and a table of dues. A due that came too early is put off."""

    def __init__(self, window: Window[R]) -> None:
        self._table: Table[Sessions[R]] = sessions_of(window)
        self._window, self._lasts = window, window.lasts_ms

    def take(self, unit: UnitOfWork, figure: Figure[R]) -> int:
        """See `_Open`."""
        key = figure.key or ""
        before = unit.get(self._table, session_key(key))
        open_ = tuple(united((*(before.open if before else ()), figure), self._window.fold.merge))
        due, old = open_[0].end + self._lasts, before.due if before else 0
        if old and old <= due:
            due = old
        else:
            if old:
                unit.put(DUES, due_key(old, key), None)
            unit.put(DUES, due_key(due, key), 1)
        unit.put(self._table, session_key(key), Sessions(open_, due))
        return due

    def finish(self, unit: UnitOfWork, since: int, watermark: int) -> tuple[list[Figure[R]], int]:
        """See `_Open`."""
        figures: list[Figure[R]] = []
        later = 0
        for number, (raw, _) in enumerate(unit.scan(DUES, due_prefix(since), FINALS_PER_RECORD + 1)):
            due, key = due_of(raw)
            if due > watermark or number == FINALS_PER_RECORD:
                return figures, min(due, later or due)
            unit.put(DUES, raw, None)
            ended, put_off = self._end(unit, key or "", watermark)
            figures += ended
            later = min(put_off or later, later or put_off)
        return figures, later

    def _end(self, unit: UnitOfWork, key: str, watermark: int) -> tuple[Sequence[Figure[R]], int]:
        sessions = unit.get(self._table, session_key(key))
        open_ = sessions.open if sessions else ()
        ended = [figure for figure in open_ if figure.end + self._lasts <= watermark]
        left = open_[len(ended) :]
        due = left[0].end + self._lasts if left else 0
        if left:
            unit.put(DUES, due_key(due, key), 1)
        unit.put(self._table, session_key(key), Sessions(left, due) if left else None)
        return ended, due


def united(figures: Sequence[Figure[R]], merge: Callable[[R, R], R]) -> Iterator[Figure[R]]:
    """Sessions in order, those that touch each other as one. Each ends a gap after its last event."""
    rest = iter(sorted(figures, key=lambda figure: (figure.start, figure.end)))
    current = next(rest)
    for figure in rest:
        if figure.start < current.end:
            end = max(current.end, figure.end)
            current = Figure(current.start, end, current.key, merge(current.row, figure.row))
        else:
            yield current
            current = figure
    yield current
