"""A standby has the rows of a bucket before it must serve it, and hands them over without a rebuild."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from app.catalogue import Catalogue
from app.domain.order import ORDER, CreateOrder, Item, ProcessPayment
from app.kernel import Command, Envelope
from app.projections.orders import ORDERS
from app.runtime.codec import Codec
from app.runtime.ports import LogChunk, Progress, TopicPartition
from app.runtime.replay import Replay, Written
from app.runtime.shard import Shard
from app.runtime.standby import Standby
from app.runtime.topics import partition_of
from tables.memory import MemoryStores
from tests.property.lives import PARTITIONS, SETTINGS, TOPICS, Town

ONLY_ORDERS = Catalogue(aggregates=(ORDER,), projections=(ORDERS,))
CODEC = Codec(ORDER.commands)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
TURNS_MAX = 10_000


def send(town: Town, commands: list[Command]) -> None:
    for command in commands:
        order_id = command.order_id  # type: ignore[attr-defined]
        envelope = Envelope(f"{order_id}.{type(command).__name__}", order_id, NOW, command)
        record = (order_id, CODEC.encode(envelope, "/t"))
        town.send(TOPICS.commands("orders"), [record])


def create(number: int) -> CreateOrder:
    return CreateOrder(f"o{number}", "c", "Ann", "a@example.org", (Item("p", 1, Decimal("1.50")),))


def standby_of(town: Town, stores: MemoryStores) -> Standby:
    shards = [Shard(agent, number) for number in range(PARTITIONS) for agent in town.agents]
    return Standby(0, shards, cluster=town.cluster, stores=stores, clock=town.cluster.clock, topics=TOPICS)


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(TURNS_MAX):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not come to that")


def rows(stores: MemoryStores, town: Town) -> dict[tuple[str, int], dict[bytes, bytes]]:
    found = {}
    for agent in town.agents:
        for number in range(PARTITIONS):
            store = stores(agent.name, number)
            found[agent.name, number] = dict(store.scan(b"", limit=10_000))
            store.close()
    return found


@pytest.fixture
def town() -> Town:
    return Town(ONLY_ORDERS.agents(SETTINGS), ONLY_ORDERS.topics(SETTINGS))


async def test_it_has_every_row_a_moment_later(town: Town) -> None:
    send(town, [create(number) for number in range(20)])
    await town.live()
    stores = MemoryStores()
    standby = standby_of(town, stores)
    running = asyncio.create_task(standby.run())
    await until(lambda: standby.caught_up)
    assert all(shard.warm and not shard.restored for shard in standby.shards)
    before = standby.rows
    send(town, [ProcessPayment(f"o{number}", "p", Decimal("1.50")) for number in range(20)])
    await town.live()
    paid = TopicPartition(TOPICS.events("orders"), partition_of("o7", PARTITIONS))
    projecting = next(
        s for s in standby.shards if s.agent.name == "projecting-orders" and s.partition == paid.partition
    )
    await until(lambda: projecting.position(paid.topic) >= town.cluster.log(paid).settled_end)
    assert standby.rows > before
    standby.close()
    await running
    assert not any(shard.warm for shard in standby.shards)
    assert rows(stores, town) == rows(town.stores, town)


async def test_its_stores_are_handed_over_open(town: Town) -> None:
    send(town, [create(number) for number in range(5)])
    await town.live()
    standby = standby_of(town, MemoryStores())
    running = asyncio.create_task(standby.run())
    await until(lambda: standby.caught_up)
    standby.close(hand_over=standby.shards)
    await running
    assert all(shard.store is not None and shard.warm for shard in standby.shards)
    assert projected(standby, "o3") is not None


def projected(standby: Standby, order_id: str) -> bytes | None:
    number = partition_of(order_id, PARTITIONS)
    shard = next(s for s in standby.shards if s.agent.name == "projecting-orders" and s.partition == number)
    return shard.opened().get(b"orders\x00" + order_id.encode())


async def test_rows_that_are_older_than_tombstones_are_kept_begin_again(town: Town) -> None:
    """Followed on from where they stood they would look young, and a pipeline that takes them over would trust them."""
    send(town, [create(number) for number in range(5)])
    await town.live()
    stores, log = MemoryStores(), TOPICS.changelog("projecting-orders")
    log_id = (await town.cluster.topic_ids([log]))[log]
    old = stores("projecting-orders", 0)
    old.write({b"orders\x00deleted-since": b"row"}, Progress(1, log_id, 0))
    old.close()
    standby = standby_of(town, stores)
    running = asyncio.create_task(standby.run())
    await until(lambda: standby.caught_up)
    standby.close()
    await running
    assert rows(stores, town) == rows(town.stores, town)


async def test_errors_are_waited_out(town: Town) -> None:
    send(town, [create(number) for number in range(5)])
    await town.live()
    town.cluster.fail_next("bounds", times=2)
    town.cluster.fail_next("read", after=3, times=2)
    standby = standby_of(town, MemoryStores())
    running = asyncio.create_task(standby.run())
    await until(lambda: standby.caught_up)
    assert projected(standby, "o3") is not None
    standby.close()
    await running


async def test_an_error_that_nobody_expects_is_told_and_waited_out_too(
    town: Town, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    send(town, [create(number) for number in range(5)])
    await town.live()
    standby = standby_of(town, MemoryStores())
    apply, failures = Replay.apply, ["a bug"]

    def once(replay: Replay, shard: Shard, chunk: LogChunk) -> Written:
        if failures:
            raise ZeroDivisionError(failures.pop())
        return apply(replay, shard, chunk)

    monkeypatch.setattr(Replay, "apply", once)
    running = asyncio.create_task(standby.run())
    await until(lambda: standby.caught_up)
    assert "ZeroDivisionError: a bug" in caplog.text
    standby.close()
    await running


async def test_after_an_error_its_rows_are_shown_again_once_they_are_warm_again(town: Town) -> None:
    send(town, [create(number) for number in range(5)])
    await town.live()
    standby = standby_of(town, MemoryStores())
    running = asyncio.create_task(standby.run())
    await until(lambda: standby.caught_up)
    town.cluster.fail_next("read")
    town.cluster.fail_next("bounds", times=3)
    await until(lambda: not standby.caught_up)
    assert not any(shard.warm for shard in standby.shards)
    send(town, [create(number) for number in range(5, 10)])  # so that it is behind when it begins again
    await town.live()
    await until(lambda: standby.caught_up)
    assert all(shard.warm for shard in standby.shards)
    assert projected(standby, "o7") is not None
    standby.close()
    await running


async def test_rows_of_a_log_that_was_made_again_are_left_alone(town: Town) -> None:
    """The owner refuses and tells a person; a standby must not wipe what may be the last copy."""
    send(town, [create(number) for number in range(5)])
    await town.live()
    stores = town.stores
    topic = TOPICS.changelog("projecting-orders")
    town.cluster.delete_topic(topic)
    town.cluster.create_topics([topic], PARTITIONS)
    standby = standby_of(town, stores)
    running = asyncio.create_task(standby.run())
    for _ in range(200):
        await asyncio.sleep(0)
    assert not standby.caught_up
    assert projected(standby, "o3") is not None
    standby.close()
    await running
