"""What is asked of one partition's window rows, by key and over all, at the edges of spans."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from app.domain.order import ORDER, OrderCreated
from app.kernel import Figures, Session, Sliding, Tumbling, Window, total_of
from app.runtime.ports import Progress
from app.runtime.table import Table
from tables.memory import MemoryStore, MemoryStores
from tables.window_queries import final_figures, last, open_figures, united, watermark
from tables.windows import (
    Figure,
    Sessions,
    due_key,
    final_key,
    finals_of,
    gathering_of,
    partials_of,
    session_key,
    sessions_of,
)

S = timedelta(seconds=1)


def window(kind: Tumbling | Sliding | Session) -> Window[Figures]:
    fold = total_of(lambda order: order.total)
    return Window("w", ORDER.category, (OrderCreated,), kind, 5 * S, fold, key=lambda order: order.customer_id)


SLIDING, TUMBLING, SESSION = window(Sliding(60 * S)), window(Tumbling(10 * S)), window(Session(30 * S))


def figure(start_s: int, end_s: int, key: str | None, count: int = 1) -> Figure[Figures]:
    return Figure(start_s * 1_000, end_s * 1_000, key, Figures(count, Decimal(count)))


def store_of(*rows: tuple[Table[Any], bytes, Any]) -> MemoryStore:
    store = MemoryStores()("w", 0)
    store.write({table.prefix + key: table.encode(row) for table, key, row in rows}, Progress(1, "log", 1))
    return store


def bucket(second: int, key: str | None, count: int = 1) -> tuple[Table[Any], bytes, Any]:
    closes = (second + 1) * 1_000 + SLIDING.lasts_ms
    return partials_of(SLIDING), due_key(closes, key), figure(second, second + 1, key, count)


@pytest.mark.parametrize(
    ("at_s", "key", "count"),
    [
        (100, None, 3),  # the second of the newest bucket: 41 up to and without 101
        (99.999, None, 100),  # that second has not begun: 40 up to and without 100
        (100, "ann", 2),
        (100, "bob", 1),
        (100, "cid", 0),
        (101, None, 2),  # the oldest bucket has just been left behind
        (160, None, 0),
        (0, None, 0),
    ],
)
def test_the_last_minute_holds_sixty_seconds(at_s: float, key: str | None, count: int) -> None:
    named = [bucket(100, "ann", 2), bucket(41, "bob", 1)]
    store = store_of(*named, bucket(100, None, 2), bucket(41, None, 1), bucket(40, None, 99))
    found = last(store, SLIDING, round(at_s * 1_000), key)
    assert found.row == Figures(count, Decimal(count))
    assert found.end == (int(at_s) + 1) * 1_000
    assert found.start == max(found.end - 60_000, 0)


def span(start: int, key: str, count: int, *, handed_over: bool = False) -> tuple[Table[Any], bytes, Any]:
    table = gathering_of(TUMBLING) if handed_over else partials_of(TUMBLING)
    return table, due_key((start + 15) * 1_000, key), figure(start, start + 10, key, count)


def test_what_is_open_here_and_what_is_handed_over_are_one_figure() -> None:
    store = store_of(span(0, "ann", 1), span(0, "ann", 2, handed_over=True), span(0, "bob", 4), span(10, "ann", 8))
    assert open_figures(store, TUMBLING, None, 10) == [
        figure(0, 10, "ann", 3),
        figure(0, 10, "bob", 4),
        figure(10, 20, "ann", 8),
    ]
    assert open_figures(store, TUMBLING, None, 1) == [figure(0, 10, "ann", 3)]
    assert open_figures(store, TUMBLING, "ann", 10) == [figure(0, 10, "ann", 3), figure(10, 20, "ann", 8)]
    assert open_figures(store, TUMBLING, "ann", 1) == [figure(0, 10, "ann", 3)]
    assert open_figures(store, TUMBLING, "nobody", 10) == []


def test_final_figures_come_newest_first() -> None:
    finals = [figure(0, 10, "ann"), figure(10, 20, "bob"), figure(20, 30, "ann")]
    store = store_of(*((finals_of(TUMBLING), final_key(one), one) for one in finals))
    assert final_figures(store, TUMBLING, None, 2) == [finals[2], finals[1]]
    assert final_figures(store, TUMBLING, "ann", 10) == [finals[2], finals[0]]


def test_open_sessions_are_found_by_key() -> None:
    sessions = {"ann": (figure(0, 30, "ann"), figure(50, 80, "ann")), "bob": (figure(10, 40, "bob"),)}
    rows = [(sessions_of(SESSION), session_key(key), Sessions(open_, 1)) for key, open_ in sessions.items()]
    store = store_of(*rows)
    assert open_figures(store, SESSION, "ann", 10) == list(sessions["ann"])
    assert open_figures(store, SESSION, None, 10) == [*sessions["ann"], *sessions["bob"]]
    assert open_figures(store, SESSION, "nobody", 10) == []


def test_figures_of_several_partitions_are_united() -> None:
    parts = [figure(0, 10, None, 1), figure(10, 20, None, 2), figure(0, 10, None, 4), figure(0, 10, "ann", 8)]
    assert united(TUMBLING, parts) == [figure(0, 10, None, 5), figure(0, 10, "ann", 8), figure(10, 20, None, 2)]


def test_a_partition_without_events_has_no_watermark() -> None:
    assert watermark(store_of()) == 0
