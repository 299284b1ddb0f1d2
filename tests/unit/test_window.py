"""The shape of windows: which spans an event is in, when they close, and what is refused."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.gathering import united
from app.domain.order import ORDER, OrderCreated
from app.kernel import COUNT, Figures, Fold, Hopping, Session, Sliding, Tumbling, Window, total_of
from app.kernel.errors import ConfigurationRefused
from app.kernel.window import ms_of, time_of
from app.windows.orders_per_minute import ORDERS_PER_MINUTE
from tables.windows import Figure, due_key, due_of, due_prefix, ended_before, final_key

S = timedelta(seconds=1)


def window(kind: Tumbling | Hopping | Sliding | Session, grace: timedelta = S, **named: Any) -> Window[Any]:
    wanted: dict[str, Any] = {"fold": COUNT, "key": lambda order: order.customer_id, **named}
    return Window("w", ORDER.category, (OrderCreated,), kind, grace, **wanted)


def spans(kind: Tumbling | Hopping | Sliding | Session, at_ms: int) -> list[tuple[int, int, int]]:
    return [(span.start, span.end, span.closes) for span in window(kind).spans(at_ms)]


def test_a_tumbling_window_begins_with_its_start_and_ends_before_its_end() -> None:
    assert spans(Tumbling(10 * S), 0) == [(0, 10_000, 11_000)]
    assert spans(Tumbling(10 * S), 9_999) == [(0, 10_000, 11_000)]
    assert spans(Tumbling(10 * S), 10_000) == [(10_000, 20_000, 21_000)]


def test_an_event_is_in_as_many_hopping_windows_as_overlap() -> None:
    assert spans(Hopping(10 * S, 5 * S), 12_345) == [(5_000, 15_000, 16_000), (10_000, 20_000, 21_000)]
    assert spans(Hopping(10 * S, 5 * S), 15_000) == [(10_000, 20_000, 21_000), (15_000, 25_000, 26_000)]


def test_a_sliding_windows_buckets_last_until_it_has_slid_past_them() -> None:
    assert spans(Sliding(60 * S), 12_345) == [(12_000, 13_000, 13_000 + 60_000 + 1_000)]


def test_a_session_begins_with_its_first_event_and_ends_a_gap_after_its_last() -> None:
    assert spans(Session(30 * S), 12_345) == [(12_345, 42_345, 43_345)]


@given(st.integers(0, 10**13), st.integers(1, 50), st.integers(1, 9))
def test_every_span_of_an_event_holds_it_and_there_are_size_by_hop(at: int, hop: int, times: int) -> None:
    found = spans(Hopping(times * hop * S, hop * S), at)
    assert len(found) == times
    assert all(start <= at < end and start % (hop * 1_000) == 0 for start, end, _ in found)


def test_times_become_milliseconds_and_come_back() -> None:
    odd = datetime(2026, 1, 1, 12, 0, 0, 123_999, tzinfo=UTC)
    assert time_of(ms_of(odd)) == odd.replace(microsecond=123_000)
    assert ms_of(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)) == 1_000
    assert ms_of(datetime(1970, 1, 1, 1, 0, tzinfo=UTC).astimezone()) == 3_600_000


def test_orders_are_counted_and_summed_up_in_parts() -> None:
    fold = ORDERS_PER_MINUTE.fold
    orders = [OrderCreated(f"o{n}", "c", "Ann", "a@example.org", (), Decimal(n)) for n in range(1, 4)]
    one, two = fold.add(fold.initial, orders[0]), fold.add(fold.add(fold.initial, orders[1]), orders[2])
    assert fold.merge(one, two) == Figures(3, Decimal(6))


class Clash(msgspec.Struct, frozen=True):
    """A row whose field cannot be told beside the window's own."""

    start: int = 0


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: window(Tumbling(0 * S)), "positive"),
        (lambda: window(Tumbling(timedelta(microseconds=1))), "whole milliseconds"),
        (lambda: window(Tumbling(S), grace=-S), "positive"),
        (lambda: window(Hopping(10 * S, 3 * S)), "multiple"),
        (lambda: window(Sliding(60 * S, timedelta(milliseconds=7))), "multiple"),
        (lambda: Window("w", "orders", (OrderCreated,), Session(S), S, COUNT), "need a key"),
        (lambda: Window("w", "orders", (), Tumbling(S), S, COUNT), "no type of event"),
        (lambda: window(Tumbling(S), fold=Fold(0, max, max)), r"msgspec\.Struct"),
        (lambda: window(Tumbling(S), fold=Fold(Clash(), max, max)), "named start"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(make: Any, why: str) -> None:
    with pytest.raises(ConfigurationRefused, match=why):
        make()


def figure(start: int, end: int, count: int = 1) -> Figure[Figures]:
    return Figure(start, end, "k", Figures(count))


@pytest.mark.parametrize(
    ("given_", "wanted"),
    [
        ([(0, 10), (9, 19)], [(0, 19, 2)]),
        ([(0, 10), (10, 20)], [(0, 10, 1), (10, 20, 1)]),
        ([(0, 10), (15, 25), (8, 18)], [(0, 25, 3)]),
        ([(5, 15), (5, 15)], [(5, 15, 2)]),
        ([(20, 30), (0, 10)], [(0, 10, 1), (20, 30, 1)]),
    ],
)
def test_sessions_that_touch_become_one(given_: list[tuple[int, int]], wanted: list[tuple[int, int, int]]) -> None:
    merged = united([figure(*span) for span in given_], total_of(lambda _: Decimal(0)).merge)
    assert [(one.start, one.end, one.row.count) for one in merged] == wanted


@given(st.lists(st.tuples(st.integers(0, 2**42), st.one_of(st.none(), st.text(max_size=3)))))
def test_what_is_due_first_comes_first(dues: list[tuple[int, str | None]]) -> None:
    keys = sorted(due_key(due, key) for due, key in dues)
    assert Counter(map(due_of, keys)) == Counter(dues)
    assert [due_of(key)[0] for key in keys] == sorted(due for due, _ in dues)
    for due, key in dues:
        assert due_prefix(due) < due_key(due, key) < due_prefix(due + 1)


@given(st.integers(1, 2**42), st.integers(1, 2**42))
def test_what_ended_last_comes_first(a: int, b: int) -> None:
    older, newer = figure(0, min(a, b)), figure(0, max(a, b))
    assert final_key(newer) <= final_key(older)
    assert (final_key(older) > ended_before(b)) == (older.end < b)
