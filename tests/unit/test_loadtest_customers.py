"""The customers' scripts: what they expect is what the aggregate decides, and everything unusual happens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest

from app.domain.order import ORDER
from app.kernel import Rejected
from app.kernel.envelope import version_conflict
from loadtest.customers import Habits, Step, population

SEED = 4
ORDERS = 3_000
NO_MISTAKES = Habits(0, 0, 0, 0, 0, 0, 0, 0)


def decided(steps: Sequence[Step]) -> list[tuple[str | None, int]]:
    """What the aggregate itself answers to one order's script: (the refusal's reason, the version after it)."""
    order: Any = ORDER  # a script holds commands of any aggregate
    state, version = order.initial, 0
    answers: dict[str, tuple[str | None, int]] = {}
    found = []
    for step in steps:
        if step.command_id not in answers:
            decision: Any
            if step.expected_version is not None and step.expected_version != version:
                decision = version_conflict(step.expected_version, version)
            else:
                decision = order.decide(state, step.command)
            if isinstance(decision, Rejected):
                answers[step.command_id] = (decision.reason, version)
            else:
                for event in decision:
                    state, version = order.evolve(state, event), version + 1
                answers[step.command_id] = (None, version)
        found.append(answers[step.command_id])
    return found


def test_expected_outcomes_are_the_aggregates_own() -> None:
    for steps in population("run", ORDERS, SEED):
        assert [(step.rejected, step.version) for step in steps] == decided(steps), steps


def test_same_seed_gives_the_same_customers() -> None:
    assert list(population("run", 50, SEED)) == list(population("run", 50, SEED))
    assert list(population("run", 50, SEED)) != list(population("run", 50, SEED + 1))


def test_command_ids_are_unique_but_for_repeats() -> None:
    steps = [step for steps in population("run", ORDERS, SEED) for step in steps]
    ids = Counter(step.command_id for step in steps if not step.repeat)
    assert set(ids.values()) == {1}
    assert {step.command_id for step in steps if step.repeat} <= set(ids)


def test_order_ids_begin_with_the_runs_name_and_are_unique() -> None:
    ids = [steps[0].order_id for steps in population("run", ORDERS, SEED)]
    assert len(set(ids)) == ORDERS
    assert all(order_id.startswith("run-") for order_id in ids)


@pytest.mark.parametrize(
    ("reason", "share"),
    [
        ("order_already_created", Habits.created_twice),
        ("order_not_paid", Habits.shipped_unpaid),
        ("payment_amount_mismatch", Habits.wrong_amount),
        ("version_conflict", Habits.stale_version),
    ],
)
def test_mistakes_happen_about_as_often_as_their_habit_says(reason: str, share: float) -> None:
    made = sum(step.rejected == reason for steps in population("run", ORDERS, SEED) for step in steps)
    assert 0.7 * share < made / ORDERS < 1.3 * share


def test_without_mistakes_every_order_is_created_paid_shipped_and_delivered() -> None:
    for steps in population("run", 20, SEED, NO_MISTAKES):
        assert [type(step.command).__name__ for step in steps] == [
            "CreateOrder",
            "ProcessPayment",
            "ShipOrder",
            "ConfirmDelivery",
        ]


def test_repeats_have_the_id_and_the_answer_of_the_step_before() -> None:
    repeated = 0
    for steps in population("run", ORDERS, SEED):
        for before, step in pairwise(steps):
            if step.repeat:
                repeated += 1
                assert (step.command_id, step.command) == (before.command_id, before.command)
                assert (step.rejected, step.version) == (before.rejected, before.version)
    assert repeated > ORDERS * Habits.repeated / 2
