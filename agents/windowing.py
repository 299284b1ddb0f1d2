"""events ─▶ windowing ─▶ inbox ─▶ gathering ─▶ finals; and what comes too late ─▶ late.

Each partition of the events folds its own into partial rows, by span and key, and has its own watermark. What it has
of a span goes to the inbox when the span closes; events of sessions, whose ends nobody knows yet, at once. Whether an
event is late is decided here, where the whole event is at hand, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import msgspec

from agents.gathering import Ask, Gathering, GoOn, Inbox, Part, Passed, inbox_decoder
from agents.ordering import InOrder
from agents.ticks import Tick, decode_tick
from app.kernel import Envelope, Session, Sliding, Window
from app.kernel.window import MILLISECOND, ms_of, time_of
from app.runtime.agent import Agent, Ticking
from app.runtime.batch import Decode
from app.runtime.ports import Record
from app.runtime.topics import Topics
from app.runtime.unit import UnitOfWork
from tables.windows import (
    ONLY,
    SOURCE_TIME,
    WAITING,
    Figure,
    SourceTime,
    due_key,
    due_of,
    due_prefix,
    partials_of,
    tables_of,
)

R = TypeVar("R")

CLOSED_PER_RECORD = 1_000
"""More wait for the next round: it is asked for by a record."""
SWEEPS_PER_SLIDE = 6
"""Buckets that a sliding window has left behind are nobody's: they are swept together, not one by one."""


def windowing_name(window: Window[Any]) -> str:
    """The agent's name."""
    return f"windowing-{window.name}"


def windowing(window: Window[R], topics: Topics, decode: Decode, partitions: int) -> Agent:
    """The agent of one window. `decode` is the category's events', shared by all who read them."""
    events, inbox, ticks = topics.events(window.category), topics.inbox(window.name), topics.ticks(window.name)
    windower = _Windower(window, topics, decode, partitions)
    finals, late = topics.finals(window.name), topics.late(window.name)
    comes_out = (finals, late) if window.ends else (late,)
    return Agent(
        name=windowing_name(window),
        sources=(events, inbox, ticks),
        decode={events: decode, inbox: inbox_decoder(window), ticks: decode_tick},
        fold=windower.fold,
        tables=(*windower.order.tables, *tables_of(window)),
        emits=(inbox, *comes_out),
        ticking=Ticking(ticks, WAITING, idle=events),
        help=f"{events} → {window.name} → {', '.join(comes_out)}",
    )


class _Windower(Generic[R]):
    def __init__(self, window: Window[R], topics: Topics, decode: Decode, partitions: int) -> None:
        self.order = InOrder(decode)
        self._window = window
        self._fold = window.fold
        self._late_topic = topics.late(window.name)
        self._partials = partials_of(window)
        self._inbox = Inbox(topics.inbox(window.name), partitions)
        self._gathering = Gathering(window, topics, self._inbox)
        self._idle_ms = window.idle // MILLISECOND
        self._patience_ms = window.slides_ms // SWEEPS_PER_SLIDE
        self._sliding, self._session = isinstance(window.kind, Sliding), isinstance(window.kind, Session)

    def fold(
        self, unit: UnitOfWork, record: Record, message: Envelope[Any] | Tick | Part[R] | Passed | Ask | GoOn
    ) -> None:
        """Take in an event, the time, or what another partition hands over, tells or asks."""
        if isinstance(message, Envelope):
            for arrived, event in self.order.arrivals(unit, record, message):
                self._event(unit, arrived, event)
            return
        match message:
            case Tick():
                self._tick(unit, min(ms_of(message.time), record.timestamp))
            case Ask(by=by, until=until):
                now = _time(unit)
                asked = now.asked | {by: min(until, now.asked.get(by, until))}
                self._advance(unit, now, msgspec.structs.replace(now, asked=asked))
            case Part():
                self._gathering.part(unit, record, message)
            case Passed():
                self._gathering.passed(unit, message)
            case GoOn():
                self._advance(unit, _time(unit), _time(unit))
                self._gathering.go_on(unit)

    def _event(self, unit: UnitOfWork, record: Record, event: Envelope[Any]) -> None:
        now, at = _time(unit), ms_of(event.time)
        next_due = now.next_due
        if isinstance(event.message, self._window.events):
            if self._session:
                self._count_in_session(unit, record, event, at, now.watermark)
            else:
                next_due = self._count_in_spans(unit, record, event, at, now)
        # A clock that is ahead makes no other event late: nothing is believed to be newer than its record.
        watermark = max(now.watermark, min(at, record.timestamp))
        if watermark == now.watermark and next_due == now.next_due and not now.quiet_since:
            return
        self._advance(unit, now, SourceTime(watermark, 0, next_due, now.asked))

    def _count_in_session(
        self, unit: UnitOfWork, record: Record, event: Envelope[Any], at: int, watermark: int
    ) -> None:
        span = self._window.spans(at)[0]
        if at + self._window.grace_ms < watermark:
            self._late(unit, record, [span.start], watermark)
            return
        row = self._fold.add(self._fold.initial, event.message)
        self._inbox.hand_over(unit, Figure(at, span.end, self._window.key(event.message), row))

    def _count_in_spans(self, unit: UnitOfWork, record: Record, event: Envelope[Any], at: int, now: SourceTime) -> int:
        key, next_due = self._window.key(event.message), now.next_due
        keys = (key, None) if self._sliding and key is not None else (key,)
        missed = []
        for span in self._window.spans(at):
            if span.closes <= now.watermark:
                missed.append(span.start)
                continue
            for one in keys:
                full = due_key(span.closes, one)
                before = unit.get(self._partials, full)
                row = self._fold.add(self._fold.initial if before is None else before.row, event.message)
                unit.put(self._partials, full, Figure(span.start, span.end, one, row))
            next_due = min(next_due or span.closes, span.closes)
        if missed:
            self._late(unit, record, missed, now.watermark)
        return next_due

    def _late(self, unit: UnitOfWork, record: Record, missed: Sequence[int], watermark: int) -> None:
        """Keep the event, whole, with the starts of the spans that it came too late for."""
        unit.count("late_events")
        headers = [
            *record.headers,
            ("window", self._window.name.encode()),
            ("missed", ",".join(time_of(start).isoformat() for start in missed).encode()),
            ("watermark", time_of(watermark).isoformat().encode()),
        ]
        unit.emit(self._late_topic, record.key, record.value, headers=headers)

    def _tick(self, unit: UnitOfWork, clock_ms: int) -> None:
        """The clock's time counts only where no event came for so long."""
        now = _time(unit)
        if not now.quiet_since:
            then = msgspec.structs.replace(now, quiet_since=clock_ms)
        elif clock_ms - now.quiet_since >= self._idle_ms:
            then = msgspec.structs.replace(now, watermark=max(now.watermark, clock_ms - self._idle_ms))
        else:
            return
        self._advance(unit, now, then)

    def _advance(self, unit: UnitOfWork, before: SourceTime, now: SourceTime) -> None:
        """Close what the watermark has passed, and answer who waits for it."""
        next_due, asked = now.next_due, now.asked
        if 0 < next_due <= now.watermark - self._patience_ms:
            next_due = self._close(unit, next_due, now.watermark)
        passed = now.watermark if not next_due else min(now.watermark, next_due - 1)
        if asked and any(until <= passed for until in asked.values()):
            for by in [by for by, until in asked.items() if until <= passed]:
                self._inbox.tell(unit, by, Passed(unit.partition, passed))
            asked = {by: until for by, until in asked.items() if until > passed}
        unit.put(SOURCE_TIME, ONLY, SourceTime(now.watermark, now.quiet_since, next_due, asked))
        waits, waited = bool(next_due or asked), bool(before.next_due or before.asked)
        if waits != waited:
            unit.put(WAITING, ONLY, 1 if waits else None)

    def _close(self, unit: UnitOfWork, since: int, watermark: int) -> int:
        """Hand over what is due; when something is due next, 0 for never."""
        for number, (key, figure) in enumerate(unit.scan(self._partials, due_prefix(since), CLOSED_PER_RECORD + 1)):
            due = due_of(key)[0]
            if due > watermark:
                return due
            if number == CLOSED_PER_RECORD:
                self._inbox.tell(unit, unit.partition, GoOn())
                return due
            unit.put(self._partials, key, None)
            if not self._sliding:
                self._inbox.hand_over(unit, figure)
        return 0


def _time(unit: UnitOfWork) -> SourceTime:
    return unit.get(SOURCE_TIME, ONLY) or SourceTime()
