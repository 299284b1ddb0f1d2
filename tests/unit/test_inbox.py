"""The inbox: what waits is taken once, by whoever owns the bucket, and nobody waits for ever."""

from __future__ import annotations

import asyncio

import pytest

from app.runtime.batch import Batch
from app.runtime.inbox import Inbox, Waiting, settle
from app.runtime.ports import TopicPartition
from app.runtime.settings import Settings
from app.runtime.simulated import SimulatedClock, SimulatedRecord

IN = TopicPartition("in", 0)
SOON_S = 5.0
TURNS = 20


def batch(records: int = 1) -> Batch:
    made = [SimulatedRecord("in", 0, offset, b"k", b"v", 0, ()) for offset in range(records)]
    return Batch(IN, made, 0, 0, records)


@pytest.fixture
def inbox() -> Inbox:
    return Inbox(Settings(settle_ms=0, rounds_per_s_max=1e9), SimulatedClock(runs=True))


async def turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


async def taken(inbox: Inbox) -> list[Waiting]:
    return await asyncio.wait_for(inbox.take(lambda: False), SOON_S)


async def test_what_waits_is_taken_together_in_order_and_once(inbox: Inbox) -> None:
    first, second, third = batch(1), batch(2), batch(3)
    putting = [asyncio.create_task(inbox.put(one, None)) for one in (first, second)]
    await turns()
    found = await taken(inbox)
    assert [one.batch for one in found] == [first, second]
    assert not any(task.done() for task in putting), "they wait until the round is over"
    settle(found)
    await asyncio.wait_for(asyncio.gather(*putting), SOON_S)
    later = asyncio.create_task(inbox.put(third, None))
    await turns()
    found = await taken(inbox)
    assert [one.batch for one in found] == [third]
    settle(found)
    await later


async def test_nothing_is_taken_while_it_is_open_whose_the_bucket_is(inbox: Inbox) -> None:
    inbox.owned.clear()
    putting = asyncio.create_task(inbox.put(batch(), None))
    taking = asyncio.create_task(inbox.take(lambda: False))
    await turns()
    assert not taking.done()
    inbox.owned.set()
    found = await asyncio.wait_for(taking, SOON_S)
    assert len(found) == 1
    settle(found)
    await putting


async def test_a_rebalance_that_begins_while_more_is_waited_for_ends_the_taking() -> None:
    """It was woken by a batch, pauses for others, and meanwhile the bucket may go to another worker."""
    inbox = Inbox(Settings(settle_ms=20, rounds_per_s_max=1e9), SimulatedClock(runs=True))
    putting = asyncio.create_task(inbox.put(batch(), None))
    taking = asyncio.create_task(inbox.take(lambda: False))
    await turns()
    inbox.owned.clear()
    done, _ = await asyncio.wait({taking}, timeout=0.2)
    assert not done
    inbox.drop()
    inbox.owned.set()
    assert await asyncio.wait_for(taking, SOON_S) == []
    await asyncio.wait_for(putting, SOON_S)


async def test_enough_records_are_not_paused_for() -> None:
    inbox = Inbox(Settings(rounds_per_s_max=0.01, round_records_enough=3), SimulatedClock(runs=True))
    putting = [asyncio.create_task(inbox.put(batch(1), None))]
    taking = asyncio.create_task(inbox.take(lambda: False))
    await turns()
    assert not taking.done(), "one record is not enough, and may wait for others"
    putting.append(asyncio.create_task(inbox.put(batch(2), None)))
    found = await asyncio.wait_for(taking, SOON_S)
    assert len(found) == 2
    settle(found)
    await asyncio.gather(*putting)


async def test_it_is_woken_without_a_batch(inbox: Inbox) -> None:
    taking = asyncio.create_task(inbox.take(lambda: True))
    await turns()
    inbox.wake()
    assert await asyncio.wait_for(taking, SOON_S) == []
