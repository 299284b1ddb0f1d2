"""A producer whose last transaction is still being settled asks at once, and then ever less often."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.producer.sender import Sender

from app.kernel.errors import BrokerUnavailable, RetryablePipelineError
from app.runtime.kafka.client import MARKERS_PAUSE_S, MARKERS_PAUSE_S_MAX, TrackedSender
from app.runtime.kafka.producer import _base_offset
from app.runtime.kafka.sender import IN_FLIGHT_MAX, RecordSender
from app.runtime.ports import TopicPartition


async def test_a_transaction_that_cannot_begin_yet_is_begun_again_ever_later(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [*[False] * 8, True, False, True]
    pauses: list[float] = []

    async def add(self: Sender, tps: Any) -> bool:
        return answers.pop(0)

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(Sender, "_do_add_partitions_to_txn", add)
    sender = TrackedSender.in_place_of(Sender.__new__(Sender))
    monkeypatch.setattr(asyncio, "sleep", sleep)
    assert [await sender._do_add_partitions_to_txn(()) for _ in list(answers)] == [*[False] * 8, True, False, True]
    assert pauses[:4] == [0.0, MARKERS_PAUSE_S, 2 * MARKERS_PAUSE_S, 4 * MARKERS_PAUSE_S]
    assert pauses[7] == MARKERS_PAUSE_S_MAX == max(pauses)
    assert pauses[8:] == [0.0]


def test_a_batch_whose_offset_the_broker_no_longer_knows_is_not_guessed() -> None:
    """Progress is counted from it: one too far, and rows would be lost in the next restore."""
    at = TopicPartition("log", 0)
    assert _base_offset(at, SimpleNamespace(offset=7)) == 7
    with pytest.raises(RetryablePipelineError, match="unknown"):
        _base_offset(at, SimpleNamespace(offset=-1))


async def test_a_sender_refuses_more_than_it_may_hold() -> None:
    sender = RecordSender("127.0.0.1:1", timeout_s=5.0)
    waiting = [asyncio.create_task(sender.send(TopicPartition("log", 0), None, b"v")) for _ in range(IN_FLIGHT_MAX)]
    await asyncio.sleep(0)
    with pytest.raises(BrokerUnavailable, match="waiting for the brokers already"):
        await asyncio.wait_for(sender.send(TopicPartition("log", 0), None, b"v"), 1.0)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await sender.close()
