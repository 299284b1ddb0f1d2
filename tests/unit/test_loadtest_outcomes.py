"""What is waited for: each command has one outcome, the expected one."""

from __future__ import annotations

import time

from app.domain.order import ConfirmDelivery
from loadtest.customers import Step
from loadtest.outcomes import Waiting

STEP = Step("c1", ConfirmDelivery("o1"), 4)
REFUSED = Step("c2", ConfirmDelivery("o1"), 4, "order_not_shipped")
REPEAT = Step("c1", ConfirmDelivery("o1"), 4, repeat=True)


def sent(*steps: Step) -> Waiting:
    waiting = Waiting()
    for step in steps:
        waiting.sent(step, time.perf_counter())
    return waiting


async def test_expected_outcomes_are_counted_and_end_the_waiting() -> None:
    waiting = sent(STEP, REFUSED)
    assert not waiting.all_answered.is_set()
    waiting.answered("c1", None, 4)
    waiting.answered("c2", "order_not_shipped", 4)
    assert waiting.all_answered.is_set()
    assert (waiting.outcomes, waiting.rejected, waiting.mismatches) == (2, {"order_not_shipped": 1}, [])
    assert len(waiting.latencies) == 2


async def test_latency_counts_from_the_intended_moment() -> None:
    waiting = Waiting()
    waiting.sent(STEP, time.perf_counter() - 3.0)
    waiting.answered("c1", None, 4)
    assert 3_000 <= (waiting.latencies.percentile(50) or 0) < 4_000


async def test_an_unexpected_outcome_is_a_mismatch() -> None:
    waiting = sent(STEP, REFUSED)
    waiting.answered("c1", "order_not_shipped", 4)
    waiting.answered("c2", "order_not_shipped", 5)
    assert waiting.mismatches == [
        "c1: order_not_shipped at version 4, not accepted at 4",
        "c2: order_not_shipped at version 5, not order_not_shipped at 4",
    ]


async def test_a_second_outcome_is_a_mismatch() -> None:
    waiting = sent(STEP)
    waiting.answered("c1", None, 4)
    waiting.answered("c1", None, 4)
    assert waiting.mismatches == ["c1 has a second outcome"]
    assert waiting.outcomes == 1


async def test_an_outcome_that_will_not_come_ends_the_waiting_for_it() -> None:
    waiting = sent(STEP)
    waiting.lost("c1", "c1 went nowhere")
    assert waiting.all_answered.is_set()
    assert waiting.mismatches == ["c1 went nowhere"]


async def test_other_peoples_outcomes_do_not_matter() -> None:
    waiting = sent(STEP)
    waiting.answered("somebody-else", None, 1)
    assert (waiting.outcomes, waiting.mismatches, waiting.unanswered()) == (0, [], ["c1"])


async def test_repeats_wait_for_nothing_but_must_be_told_the_same() -> None:
    waiting = sent(STEP, REPEAT)
    waiting.answered("c1", None, 4)
    assert waiting.all_answered.is_set()
    waiting.repeated(REPEAT, None, 4)
    assert (waiting.repeats, waiting.mismatches) == (1, [])
    waiting.repeated(REPEAT, "order_not_shipped", 4)
    assert waiting.mismatches == ["c1: order_not_shipped at version 4, not accepted at 4 when repeated"]
