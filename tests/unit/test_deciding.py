"""Deciding, record by record: a command is answered once, and for how long that is remembered."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from agents.deciding import SWEEP_EVERY_COMMANDS, SWEEP_ROWS, deciding
from app.domain.order import ORDER, CreateOrder, Item
from app.kernel import Envelope
from app.kernel.window import ms_of
from app.runtime.codec import Codec
from app.runtime.ports import Record
from app.runtime.simulated import SimulatedRecord
from app.runtime.topics import Topics
from tables.outcomes import OUTCOMES
from tests.unit.one_partition import OnePartition

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
TOPICS = Topics()
RETENTION = timedelta(minutes=10)
CODEC = Codec(ORDER.commands)


def desk() -> OnePartition:
    return OnePartition(deciding(ORDER, TOPICS, partitions=1, outcome_retention_s=RETENTION.total_seconds()))


def command(number: int, at: timedelta, order_id: str = "", *, says: datetime = BEGIN) -> Record:
    """A command that has come in at that time after the beginning, whatever its sender's clock says."""
    id_ = order_id or f"o{number}"
    create = CreateOrder(id_, "c", "Ann", "a@example.org", (Item("p", 1, Decimal(1)),))
    value = CODEC.encode(Envelope(f"c{number:04}", id_, says, create), "/t")
    return SimulatedRecord(TOPICS.commands("orders"), 0, number, id_.encode(), value, ms_of(BEGIN + at), ())


def test_outcomes_are_remembered_for_their_retention_and_then_forgotten_faster_than_they_come() -> None:
    one, n = desk(), 10 * SWEEP_ROWS
    for number in range(n):
        one.take(command(number, timedelta()))
    assert len(one.rows(OUTCOMES)) == n
    for number in range(n, 2 * n):
        one.take(command(number, RETENTION))
    assert len(one.rows(OUTCOMES)) == 2 * n, "none is older than that"
    later = RETENTION + timedelta(seconds=1)
    # It looks at two rows for each command: at all of them, and at those that come meanwhile, after so many.
    for number in range(2 * n, 4 * n + SWEEP_EVERY_COMMANDS):
        one.take(command(number, later))
    left = one.rows(OUTCOMES)
    assert not [key for key in left if key < f"c{n:04}".encode()]
    assert len(left) == 3 * n + SWEEP_EVERY_COMMANDS, "those that are not old are there"


@pytest.mark.parametrize("says", [BEGIN - timedelta(days=10_000), BEGIN + timedelta(days=10_000)])
def test_no_senders_clock_makes_anything_forgotten(says: datetime) -> None:
    """It is the brokers' clock that counts: a command from the future would have others forgotten, one from the past
    itself, and whoever repeated them would be answered by another decision."""
    one, n = desk(), 4 * SWEEP_EVERY_COMMANDS
    for number in range(n):
        one.take(command(number, timedelta()))
    for number in range(n, 2 * n):
        one.take(command(number, timedelta(seconds=1), says=says))
    for number in range(2 * n, 4 * n):
        one.take(command(number, timedelta(seconds=2)))
    assert len(one.rows(OUTCOMES)) == 4 * n


@pytest.mark.parametrize("timestamp", [-1, 0, (1 << 63) - 1])
def test_a_record_without_a_time_that_can_be_told_is_decided_all_the_same(timestamp: int) -> None:
    one = desk()
    record = command(1, timedelta())
    odd = SimulatedRecord(record.topic, 0, 1, record.key, record.value, timestamp, ())
    assert [each.topic for each in one.take(odd)] == [TOPICS.events("orders"), TOPICS.outcomes("orders")]
    assert one.take(odd) == []


def test_a_command_that_comes_again_changes_nothing_and_is_not_answered_again() -> None:
    one = desk()
    first = one.take(command(1, timedelta()), command(1, timedelta()))
    assert [each.topic for each in first] == [TOPICS.events("orders"), TOPICS.outcomes("orders")]
    assert one.take(command(1, timedelta())) == []


def test_a_refusal_that_comes_again_is_not_answered_again() -> None:
    one = desk()
    one.take(command(1, timedelta()))
    refused = one.take(command(2, timedelta(), "o1"), command(2, timedelta(), "o1"))
    assert [each.topic for each in refused] == [TOPICS.outcomes("orders")]
