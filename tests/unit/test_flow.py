"""How long a new record would wait, from how many wait and how fast they have been folded."""

from __future__ import annotations

import pytest

from app.runtime.flow import CAPACITY_PER_S_MIN, Flow
from app.runtime.ports import TopicPartition

SOURCE = TopicPartition("orders.commands", 0)


def test_nothing_is_known_at_first() -> None:
    assert Flow().wait_s(SOURCE) == 0


def test_the_wait_is_the_backlog_by_the_best_rate() -> None:
    flow = Flow()
    flow.note({SOURCE: 0}, {SOURCE: 0}, 0.0)
    flow.note({SOURCE: 2_000}, {SOURCE: 9_000}, 1.0)
    assert flow.wait_s(SOURCE) == pytest.approx(4.5)


def test_a_burst_after_a_quiet_time_is_no_overload() -> None:
    flow = Flow()
    for second in range(1_000):
        flow.note({SOURCE: second}, {SOURCE: 0}, float(second))
    flow.note({SOURCE: 1_000}, {SOURCE: 800}, 1_000.0)
    assert flow.wait_s(SOURCE) == pytest.approx(800 / CAPACITY_PER_S_MIN)


def test_a_best_rate_of_long_ago_counts_for_less() -> None:
    flow = Flow()
    flow.note({SOURCE: 0}, {}, 0.0)
    flow.note({SOURCE: 10_000}, {SOURCE: 10_000}, 1.0)
    fresh = flow.wait_s(SOURCE)
    for second in range(2, 60):
        flow.note({SOURCE: 10_000}, {SOURCE: 10_000}, float(second))
    assert flow.wait_s(SOURCE) > fresh * 1.5


def test_a_seek_back_is_no_negative_rate() -> None:
    flow = Flow()
    flow.note({SOURCE: 5_000}, {SOURCE: 500}, 1.0)
    flow.note({SOURCE: 0}, {SOURCE: 5_500}, 2.0)
    assert flow.wait_s(SOURCE) == pytest.approx(11.0)


def test_two_notes_of_one_moment_divide_by_nothing() -> None:
    flow = Flow()
    flow.note({SOURCE: 1}, {SOURCE: 1}, 1.0)
    flow.note({SOURCE: 2}, {SOURCE: 0}, 1.0)
    assert flow.wait_s(SOURCE) > 0
