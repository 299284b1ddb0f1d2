"""A read model built anew on a real fleet of two workers, under load, with a kill -9 in the middle."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import aiohttp
import pytest

from app.cli.rebuilding import Rebuild, RebuildRefused, fleet_of
from app.local.workers import LocalWorker
from app.runtime.kafka.admin import list_topics
from tests.conftest import ROOT
from tests.integration.fleet import TestedFleet, kill, until
from tests.integration.test_read_models import Client, nothing

ORDERS, RATE = 60, 40.0
OLD_RELEASE = "tests.integration.old_release"


@dataclass
class Reading:
    """Somebody who reads all the time, of a worker that nobody kills, and what they saw."""

    answers: int = 0
    failed: list[object] = field(default_factory=list)


@asynccontextmanager
async def reading(client: Client, path: str) -> AsyncIterator[Reading]:
    """Read a path over and over while the block runs. A 503 may be tried once more."""
    found, stopping = Reading(), asyncio.Event()

    async def on() -> None:
        while not stopping.is_set():
            for attempt in (1, 2):
                status, body, _ = await client.ask(path, worker=1)
                if status == 200:
                    found.answers += 1
                    break
                if attempt == 2:
                    found.failed.append(body)
                await asyncio.sleep(0.05)

    task = asyncio.create_task(on())
    try:
        yield found
    finally:
        stopping.set()
        await task


async def old_release_ran(fleet: TestedFleet) -> tuple[LocalWorker, LocalWorker]:
    """Two workers of this release, on what workers of the old release have made of some orders."""
    now = fleet.worker("one", catch_up_records="300"), fleet.worker("two", catch_up_records="300")
    old = [replace(worker, application=OLD_RELEASE) for worker in now]
    await fleet.up(*old)
    driven = await fleet.load(ORDERS, RATE, [worker.url for worker in now], nothing, think_s=0.05)
    assert not driven.mismatches
    await asyncio.gather(*(asyncio.to_thread(worker.stop) for worker in old))
    await fleet.up(*now)
    return now


@pytest.mark.long
async def test_a_mended_read_model_is_built_anew_and_changed_over(fleet: TestedFleet) -> None:
    one, two = await old_release_ran(fleet)
    said: list[str] = []
    async with aiohttp.ClientSession() as session, fleet_of(fleet.settings) as commands:
        client = Client(session, fleet, (one.url, two.url))
        rebuild = Rebuild(commands, "customers", said.append)

        async def build() -> None:
            refused = asyncio.create_task(rebuild.run(force=False, show=False))
            await until(lambda: any("Building generation 2" in line for line in said), 30)
            await kill(one)
            one.start(with_parent=True)
            await fleet.ready(one, two)
            with pytest.raises(RebuildRefused, match=" differ"):
                await refused

        async with reading(client, "/customers?limit=5") as read:
            driven = await fleet.load(2 * ORDERS, RATE, client.urls, build, think_s=0.05)
            assert not driven.mismatches
        assert read.answers > 20
        assert not read.failed, read.failed[:3]
        wrong = await client.views(await client.recount())
        assert wrong != await client.recount(), "the old generation is read as before"

        async with reading(client, "/customers?limit=5") as read:
            await rebuild.run(force=True, show=True)
        assert not read.failed
        assert any(": spent " in line for line in said), said
        await client.agree()
        assert all(told.standing.live == 2 for told in await commands.workers("customers"))

        await another_that_agrees(client)
        await given_up(fleet, client)


async def another_that_agrees(client: Client) -> None:
    """By the command itself: nothing differs, so it changes over."""
    done = await fleet_command(client.fleet, "projections", "rebuild", "orders-by-day", "--diff")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 differ" in done.stdout
    assert "Generation 2 of orders-by-day is read now." in done.stdout
    listed = await fleet_command(client.fleet, "projections", "list")
    assert listed.returncode == 0
    assert "customer-orders" in listed.stdout
    await client.agree()


async def given_up(fleet: TestedFleet, client: Client) -> None:
    """The third generation takes the inbox that the first has had; given up, nothing of it is left."""
    async with fleet_of(fleet.settings) as commands:
        said: list[str] = []
        rebuild = Rebuild(commands, "customers", said.append)
        await rebuild.run(force=False, show=True)
        await client.agree()
        assert (await commands.standing("customers")).live == 3
        topics = await list_topics(fleet.settings.brokers)
        prefix = fleet.settings.topic_prefix
        assert f"{prefix}projecting-customers.g3.changelog" in topics
        assert not {f"{prefix}projecting-customers{suffix}.changelog" for suffix in ("", ".g2")} & set(topics)
        await rebuild._begin()
        assert (await commands.standing("customers")).building == 4
        await rebuild.abort()
        assert f"{prefix}projecting-customers.g4.changelog" not in await list_topics(fleet.settings.brokers)
        await client.agree()
        await rebuild.abort()
        assert said[-1] == "No generation of customers is being built."


async def fleet_command(fleet: TestedFleet, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `fleet` as people do."""
    s = fleet.settings
    env = {"PATH": "/usr/bin:/bin", "FLEET_BROKERS": s.brokers, "FLEET_TOPIC_PREFIX": s.topic_prefix}
    command = [sys.executable, "-m", "app.cli.main", *arguments]
    return await asyncio.to_thread(
        subprocess.run, command, check=False, capture_output=True, text=True, timeout=90, env=env, cwd=ROOT
    )
