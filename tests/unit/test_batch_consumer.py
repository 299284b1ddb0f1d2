"""What the consumer thread makes of a fetch: batches with their true bounds, and nothing lost at a rebalance."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.structs import TopicPartition as KafkaTopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from app.runtime.faust_shell.consumer import BatchConsumerThread

PARTITION = KafkaTopicPartition("t", 0)


class Assignment:
    """aiokafka's, as far as the thread looks at it: which partitions, and how far each was read."""

    def __init__(self, position: int) -> None:
        self.tps = {PARTITION}
        self.state = SimpleNamespace(_position=position)

    def state_value(self, _: Any) -> SimpleNamespace:
        return self.state


class Consumer:
    """aiokafka's, as far as the thread looks at it."""

    def __init__(self, assignment: Assignment) -> None:
        self._fetcher = SimpleNamespace()
        self._subscription = SimpleNamespace(subscription=SimpleNamespace(assignment=assignment))
        self.sought: list[tuple[Any, int]] = []

    def assign(self, assignment: Assignment) -> None:
        self._subscription.subscription.assignment = assignment

    def seek(self, partition: Any, offset: int) -> None:
        self.sought.append((partition, offset))


def thread() -> BatchConsumerThread:
    made: Any = BatchConsumerThread.__new__(BatchConsumerThread)
    made._epochs, made._chain, made._left = defaultdict(int), {}, {}
    made._assignment_seen = None
    made._pacing = SimpleNamespace(fetched=lambda *_: None)
    made._thread_loop = None
    made.__dict__["thread_loop"] = None
    return made  # type: ignore[no-any-return]


def records(*offsets: int) -> list[Any]:
    return [SimpleNamespace(offset=offset) for offset in offsets]


@pytest.fixture
def fetches(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """What Faust's own fetch brings, and what happens during it."""

    def bring(found: dict[Any, list[Any]], meanwhile: Callable[[], None] = lambda: None) -> None:
        async def fetch(*_: Any, **__: Any) -> dict[Any, list[Any]]:
            meanwhile()
            return found

        monkeypatch.setattr(driver.AIOKafkaConsumerThread, "_fetch_records", fetch)

    return bring


async def test_bounds_are_positions_not_offsets(fetches: Callable[..., None]) -> None:
    """Offset 5 was a control record before, offset 8 is one behind: both belong to the batch."""
    assignment = Assignment(5)
    consumer, made = Consumer(assignment), thread()
    fetches({PARTITION: records(6, 7)}, lambda: assignment.state.__dict__.update(_position=9))
    batches = await made._fetch_records(consumer, None)
    assert [(b.start, b.end) for b in batches.values()] == [(5, 9)]
    fetches({PARTITION: records(9)}, lambda: assignment.state.__dict__.update(_position=10))
    batches = await made._fetch_records(consumer, None)
    assert [(b.start, b.end) for b in batches.values()] == [(9, 10)]


async def test_seek_by_somebody_else_is_seen(fetches: Callable[..., None]) -> None:
    assignment = Assignment(0)
    consumer, made = Consumer(assignment), thread()
    fetches({PARTITION: records(0)}, lambda: assignment.state.__dict__.update(_position=1))
    await made._fetch_records(consumer, None)
    assignment.state._position = 40
    fetches({PARTITION: records(40)}, lambda: assignment.state.__dict__.update(_position=41))
    batches = await made._fetch_records(consumer, None)
    assert [(b.start, b.end) for b in batches.values()] == [(40, 41)]


async def test_records_of_a_fetch_that_saw_a_rebalance_are_fetched_again(fetches: Callable[..., None]) -> None:
    """The fetch began before the rebalance and ended after a pipeline's seek: nobody else would ask for them again."""
    consumer, made = Consumer(Assignment(0)), thread()
    fetches({PARTITION: records(3, 4)}, lambda: consumer.assign(Assignment(5)))
    assert await made._fetch_records(consumer, None) == {}
    assert consumer.sought == [(PARTITION, 3)]


async def test_records_of_a_partition_that_was_lost_are_dropped(fetches: Callable[..., None]) -> None:
    lost = Assignment(0)
    lost.tps = set()
    consumer, made = Consumer(Assignment(0)), thread()
    fetches({PARTITION: records(3)}, lambda: consumer.assign(lost))
    assert await made._fetch_records(consumer, None) == {}
    assert consumer.sought == []


async def test_batches_carry_the_epoch_of_their_fetch(fetches: Callable[..., None]) -> None:
    assignment = Assignment(0)
    consumer, made = Consumer(assignment), thread()
    made._epochs[TP("t", 0)] = 7
    fetches({PARTITION: records(0)}, lambda: assignment.state.__dict__.update(_position=1))
    batches = await made._fetch_records(consumer, None)
    assert [batch.epoch for batch in batches.values()] == [7]
