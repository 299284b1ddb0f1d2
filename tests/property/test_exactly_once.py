"""Exactly once, of orders: duplicates, and deaths between any two steps, change nothing that can be seen."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.catalogue import Catalogue
from app.domain.order import ORDER, CancelOrder, ConfirmDelivery, CreateOrder, Item, ProcessPayment, ShipOrder
from app.kernel import Command, Envelope
from app.projections.orders import ORDERS
from app.runtime.codec import Codec
from app.runtime.ports import TopicPartition
from app.runtime.shard import META_KEY
from tests.property.lives import SETTINGS, TOPICS, Lived, Town

ONLY_ORDERS = Catalogue(aggregates=(ORDER,), projections=(ORDERS,))
CODEC = Codec(ORDER.commands)
COMMANDS, EVENTS, OUTCOMES = (TOPICS.commands("orders"), TOPICS.events("orders"), TOPICS.outcomes("orders"))
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)

Sent = tuple[str, bytes]


def _command(kind: int, order_id: str) -> Command:
    match kind:
        case 0:
            return CreateOrder(order_id, "c", "Ann", "a@example.org", (Item("p", 2, Decimal("1.50")),))
        case 1:
            return ProcessPayment(order_id, "pay", Decimal("3.00"))
        case 2:
            return ShipOrder(order_id, "t")
        case 3:
            return ConfirmDelivery(order_id)
        case _:
            return CancelOrder(order_id, "no")


@st.composite
def sent_commands(draw: st.DrawFn) -> list[Sent]:
    """Commands for a few orders, some of them with the id of an earlier one."""
    wanted = draw(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.booleans()), min_size=1, max_size=25))
    found: list[Sent] = []
    last: dict[str, str] = {}
    for number, (kind, order, repeated) in enumerate(wanted):
        order_id = f"o{order}"
        command_id = last.get(order_id, f"c.{order_id}") if repeated else f"c{number}.{order_id}"
        last[order_id] = command_id
        time = BEGIN + timedelta(seconds=number)
        found.append((order_id, CODEC.encode(Envelope(command_id, order_id, time, _command(kind, order_id)), "/t")))
    return found


def orders_town() -> Town:
    return Town(ONLY_ORDERS.agents(SETTINGS), ONLY_ORDERS.topics(SETTINGS))


def in_one_life(commands: Sequence[Sent]) -> Lived:
    async def run() -> Lived:
        town = orders_town()
        town.send(COMMANDS, commands)
        await town.live()
        return await town.lived()

    return asyncio.run(run())


def check_same(found: Lived, wanted: Lived) -> None:
    assert found.records == wanted.records
    assert found.rows == wanted.rows
    check_sound(found)


def check_sound(found: Lived) -> None:
    """Every event and outcome once, every stream's versions contiguous from 1."""
    ids: list[str] = []
    versions: dict[str, int] = {}
    for partition, records in found.records.items():
        for _, value in records:
            message = json.loads(value or b"")
            ids.append(message["id"])
            if partition.topic == EVENTS:
                assert message["version"] == versions.get(message["subject"], 0) + 1
                versions[message["subject"]] = message["version"]
    assert len(ids) == len(set(ids))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    sent_commands(),
    st.lists(st.tuples(st.integers(1, 40), st.booleans(), st.integers(1, 6)), max_size=5),
    st.integers(0, 25),
)
def test_deaths_between_any_two_steps_change_nothing(
    commands: list[Sent], deaths: list[tuple[int, bool, int]], late: int
) -> None:
    async def run() -> Lived:
        town = orders_town()
        town.send(COMMANDS, commands[:late])
        for number, (dies_at, disk_lost, batch) in enumerate(deaths):
            if number == 1:
                town.send(COMMANDS, commands[late:])
            await town.live(dies_at=dies_at, disk_lost=disk_lost, batch=batch)
        if len(deaths) < 2:
            town.send(COMMANDS, commands[late:])
        await town.live()
        return await town.lived()

    check_same(asyncio.run(run()), in_one_life(commands))


@pytest.mark.parametrize("disk_lost", [False, True])
def test_a_death_at_every_single_step(disk_lost: bool) -> None:
    commands = [
        (f"o{order}", CODEC.encode(Envelope(f"c{order}.{kind}", f"o{order}", BEGIN, _command(kind, f"o{order}")), "/t"))
        for kind in range(4)
        for order in range(3)
    ]
    wanted = in_one_life(commands)

    async def run(dies_at: int) -> tuple[int, Lived]:
        town = orders_town()
        town.send(COMMANDS, commands)
        effects = await town.live(dies_at=dies_at)
        await town.live(disk_lost=disk_lost)
        return effects, await town.lived()

    steps = 0
    for dies_at in range(1, 200):
        effects, found = asyncio.run(run(dies_at))
        check_same(found, wanted)
        steps = dies_at
        if effects < dies_at:
            break
    assert steps > 20, "the lives were too short to prove anything"


@settings(max_examples=40, deadline=None)
@given(sent_commands(), st.integers(1, 7))
def test_replay_in_one_go_equals_step_by_step(commands: list[Sent], batch: int) -> None:
    """Whatever the batches are, rows and events are the same; so are those of a process that restores everything."""

    async def run() -> Lived:
        town = orders_town()
        for command in commands:
            town.send(COMMANDS, [command])
            await town.live(batch=batch)
        return await town.lived()

    check_same(asyncio.run(run()), in_one_life(commands))


async def test_the_check_can_fail() -> None:
    """A doubled event, written behind the engine's back, is seen by the comparison."""
    commands = [("o1", CODEC.encode(Envelope("c1", "o1", BEGIN, _command(0, "o1")), "/t"))]
    town = orders_town()
    town.send(COMMANDS, commands)
    await town.live()
    before = await town.lived()
    partition = next(p for p, records in before.records.items() if p.topic == EVENTS and records)
    town.cluster.append(TopicPartition(EVENTS, partition.partition), before.records[partition][0])
    after = await town.lived()
    with pytest.raises(AssertionError):
        check_same(after, before)
    assert META_KEY not in after.rows["projecting-orders", partition.partition]
