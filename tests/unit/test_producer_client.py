"""A producer whose last transaction is still being settled asks at once, and then ever less often."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka.producer.sender import Sender

from app.runtime.kafka.client import MARKERS_PAUSE_S, MARKERS_PAUSE_S_MAX, TrackedSender


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
