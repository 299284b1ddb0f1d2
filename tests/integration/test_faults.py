"""What happens to workers under load, and that nothing of it can be seen in the result.

After each: every (order, version) stands exactly once in the events topic, read as read_committed; every command has
exactly one outcome, the expected one; and the read model equals a recount of the log.
"""

from __future__ import annotations

import asyncio
import os
import signal

from loadtest.drive import Driven
from tests.integration.fleet import SESSION_TIMEOUT_S, TestedFleet, kill, lose_disk, until

ORDERS = 240
RATE = 40.0


async def check(fleet: TestedFleet, driven: Driven, urls: list[str]) -> None:
    found = await fleet.recount(urls)
    assert driven.mismatches == []
    assert found.examples == []
    assert found.orders == ORDERS
    assert driven.outcomes > ORDERS * 3


async def test_kill_9_of_one_of_two_workers(fleet: TestedFleet) -> None:
    one, two = fleet.worker("one"), fleet.worker("two")
    await fleet.up(one, two)

    async def meanwhile() -> None:
        await kill(one)
        await fleet.up(one, two)

    driven = await fleet.load(ORDERS, RATE, [one.url, two.url], meanwhile)
    await check(fleet, driven, [one.url, two.url])


async def test_second_worker_joins_and_leaves(fleet: TestedFleet) -> None:
    one, two = fleet.worker("one"), fleet.worker("two")
    await fleet.up(one)

    async def meanwhile() -> None:
        await fleet.up(two, one)
        assert await asyncio.to_thread(two.stop), "it did not stop by itself"
        await fleet.ready(one)

    driven = await fleet.load(ORDERS, RATE, [one.url], meanwhile)
    await check(fleet, driven, [one.url])


async def test_lost_disk(fleet: TestedFleet) -> None:
    one, two = fleet.worker("one"), fleet.worker("two")
    await fleet.up(one, two)

    async def meanwhile() -> None:
        await kill(one)
        lose_disk(one)
        await fleet.up(one, two)

    driven = await fleet.load(ORDERS, RATE, [one.url, two.url], meanwhile)
    await check(fleet, driven, [one.url, two.url])


async def test_zombie_wakes_up_after_its_session(fleet: TestedFleet) -> None:
    one, two = fleet.worker("one"), fleet.worker("two")
    await fleet.up(one, two)

    def two_serves_everything() -> bool:
        readiness = two.readiness() or {}
        return bool(readiness.get("ready")) and len(readiness["buckets"]) == fleet.settings.buckets

    async def meanwhile() -> None:
        pid = one.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        await until(two_serves_everything, SESSION_TIMEOUT_S * 10)
        os.kill(pid, signal.SIGCONT)
        await fleet.ready(one, two)

    driven = await fleet.load(ORDERS, RATE, [two.url], meanwhile)
    await check(fleet, driven, [one.url, two.url])


async def test_regrouping_from_all_to_split_roles_and_back(fleet: TestedFleet) -> None:
    """With the roles stopped, and told what to adopt: nothing is lost at the change."""

    async def nothing() -> None:
        return

    one = fleet.worker("one")
    await fleet.up(one)
    before = await fleet.load(ORDERS // 2, RATE * 2, [one.url], nothing)
    await asyncio.to_thread(one.stop)
    adopt = ",".join(f"{fleet.settings.topic_prefix}eventfleet-all-{bucket}" for bucket in range(2))
    commands, reads = fleet.worker("c", "commands", adopt=adopt), fleet.worker("r", "reads", adopt=adopt)
    await fleet.up(commands, reads)
    driven = await fleet.load(ORDERS // 2, RATE * 2, [commands.url, reads.url], nothing)
    assert before.mismatches == []
    await check_orders(fleet, driven, [commands.url, reads.url])


async def check_orders(fleet: TestedFleet, driven: Driven, urls: list[str]) -> None:
    found = await fleet.recount(urls)
    assert driven.mismatches == []
    assert found.examples == []
    assert found.orders == ORDERS
