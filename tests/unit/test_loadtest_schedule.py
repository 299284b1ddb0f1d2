"""The open model: when each command is due is fixed by the rate, before anything is sent."""

from __future__ import annotations

from itertools import pairwise

import pytest

from loadtest.customers import population
from loadtest.latencies import Latencies
from loadtest.schedule import schedule

SCRIPTS = list(population("run", 400, 1))


def test_orders_begin_evenly_at_the_rate() -> None:
    begins = [one.at_s for one in schedule(SCRIPTS, 50) if one.step.command_id.endswith(":0") and not one.step.repeat]
    assert begins == pytest.approx([number / 50 for number in range(len(SCRIPTS))])


def test_an_orders_steps_keep_their_order_and_think_in_between() -> None:
    due = schedule(SCRIPTS, 50, think_s=0.1)
    for steps in SCRIPTS:
        own = [one for one in due if one.step.order_id == steps[0].order_id]
        assert [one.step for one in own] == steps
        assert [b.at_s - a.at_s for a, b in pairwise(own)] == pytest.approx([0.1] * (len(steps) - 1))


def test_steps_of_one_order_keep_their_order_without_thinking() -> None:
    due = schedule(SCRIPTS, 50, think_s=0)
    for steps in SCRIPTS:
        assert [one.step for one in due if one.step.order_id == steps[0].order_id] == steps


def test_everything_is_due_in_the_order_of_sending() -> None:
    due = schedule(SCRIPTS, 50)
    assert len(due) == sum(map(len, SCRIPTS))
    assert all(a.at_s <= b.at_s for a, b in pairwise(due))


def test_a_poisson_process_has_the_rate_and_its_seed_replays_it() -> None:
    due = schedule(SCRIPTS, 50, poisson_seed=3)
    assert due == schedule(SCRIPTS, 50, poisson_seed=3)
    begins = [one.at_s for one in due if one.step.command_id.endswith(":0") and not one.step.repeat]
    gaps = [b - a for a, b in pairwise(begins)]
    assert 0.8 / 50 < sum(gaps) / len(gaps) < 1.2 / 50
    assert max(gaps) > 3 / 50


def test_percentiles_are_those_of_what_was_noted() -> None:
    latencies = Latencies()
    for milliseconds in range(1, 1_001):
        latencies.add(milliseconds / 1_000)
    assert latencies.percentile(50) == pytest.approx(500, rel=0.002)
    assert latencies.percentile(99) == pytest.approx(990, rel=0.002)
    assert latencies.summary()["max"] == pytest.approx(1_000, rel=0.002)


def test_nothing_noted_has_no_percentiles() -> None:
    assert Latencies().summary() == {"p50": None, "p90": None, "p99": None, "max": None}


def test_latencies_beyond_the_histogram_count_as_its_bounds() -> None:
    latencies = Latencies()
    latencies.add(-1.0)
    latencies.add(1e9)
    assert len(latencies) == 2
    assert latencies.percentile(100) == pytest.approx(600_000, rel=0.002)
