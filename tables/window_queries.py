"""What can be asked of one partition's window rows: the last minute, what is open, what was final lately."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from app.kernel import Session, Window
from app.runtime.ports import PartitionStore
from app.runtime.table import Table
from tables.windows import (
    ONLY,
    SOURCE_TIME,
    Figure,
    due_key,
    due_of,
    due_prefix,
    finals_of,
    gathering_of,
    partials_of,
    session_key,
    sessions_of,
)

R = TypeVar("R")

PAGE_ROWS = 200


def last(store: PartitionStore, window: Window[R], at_ms: int, key: str | None) -> Figure[R]:
    """What this partition has of the sliding window that ends with the step that `at_ms` is in."""
    table, step = partials_of(window), window.step_ms
    size = window.slides_ms
    end = at_ms - at_ms % step + step
    closes = [start + step + window.lasts_ms for start in range(end - size, end, step)]
    row = window.fold.initial
    for raw in store.get_many([table.prefix + due_key(due, key) for due in closes if due > 0]):
        if raw is not None:
            row = window.fold.merge(row, table.decode(raw).row)
    return Figure(max(end - size, 0), end, key, row)


def open_figures(store: PartitionStore, window: Window[R], key: str | None, limit: int) -> list[Figure[R]]:
    """What this partition has of spans that are not final: those that close first come first, then by key."""
    if isinstance(window.kind, Session):
        return list(itertools.islice(_open_sessions(store, window, key), limit))
    tables = (partials_of(window), gathering_of(window))
    found = [figure for table in tables for figure in itertools.islice(_spans(store, table, key), limit)]
    return united(window, found)[:limit]


def final_figures(store: PartitionStore, window: Window[R], key: str | None, limit: int) -> list[Figure[R]]:
    """What became final here and is kept still, the newest first."""
    figures = (figure for _, figure in _rows(store, finals_of(window)))
    wanted = (figure for figure in figures if key is None or figure.key == key)
    return list(itertools.islice(wanted, limit))


def watermark(store: PartitionStore) -> int:
    """How far time has come in this partition of the events, in ms since 1970; 0 before its first event."""
    raw = store.get(SOURCE_TIME.prefix + ONLY)
    return 0 if raw is None else int(SOURCE_TIME.decode(raw).watermark)


def united(window: Window[R], figures: Sequence[Figure[R]]) -> list[Figure[R]]:
    """Figures of several partitions: one for each span and key, those that end first first."""
    found: dict[tuple[int, str, int], Figure[R]] = {}
    for figure in figures:
        place = (figure.end, figure.key or "", figure.start)
        before = found.get(place)
        row = figure.row if before is None else window.fold.merge(before.row, figure.row)
        found[place] = msgspec.structs.replace(figure, row=row)
    return [figure for _, figure in sorted(found.items())]


def _open_sessions(store: PartitionStore, window: Window[R], key: str | None) -> Iterator[Figure[R]]:
    table = sessions_of(window)
    if key is not None:
        raw = store.get(table.prefix + session_key(key))
        yield from table.decode(raw).open if raw is not None else ()
        return
    for _, sessions in _rows(store, table):
        yield from sessions.open


def _spans(store: PartitionStore, table: Table[Figure[R]], key: str | None) -> Iterator[Figure[R]]:
    if key is None:
        for _, figure in _rows(store, table):
            yield figure
        return
    after: bytes | None = None
    while found := store.scan(table.prefix, after, 1):  # from one due time to the next: they are few, keys are many
        due = due_of(found[0][0][len(table.prefix) :])[0]
        raw = store.get(table.prefix + due_key(due, key))
        if raw is not None:
            yield table.decode(raw)
        after = table.prefix + due_prefix(due + 1)


def _rows(store: PartitionStore, table: Table[Any]) -> Iterator[tuple[bytes, Any]]:
    after: bytes | None = None
    while page := store.scan(table.prefix, after, PAGE_ROWS):
        for key, raw in page:
            yield key, table.decode(raw)
        after = page[-1][0]
