"""A newcomer's aggregate, projection, window and chain, just as the README has them, on a real fleet."""

from __future__ import annotations

import importlib
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from app.local.kafka import LocalKafka
from app.runtime.codec import utc_now
from tests import worked_example
from tests.integration.fleet import TestedFleet
from tests.integration.shop import Shop


@pytest_asyncio.fixture
async def newcomers(
    kafka: LocalKafka, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[TestedFleet, str]]:
    """A fleet that runs the README's files and its catalogue; and where its views are."""
    files, before = tmp_path / "files", set(sys.modules)
    worked_example.write(files)
    for package, path in worked_example.paths_with(files):
        monkeypatch.setattr(package, "__path__", path)
    fleet = TestedFleet(kafka, topic_prefix, tmp_path)
    await fleet.make_topics(worked_example.catalogue())
    worker = fleet.worker("newcomer", application="tests.worked_example", environment={"EXAMPLE_DIRECTORY": str(files)})
    try:
        await fleet.up(worker)
        yield fleet, worker.url
    finally:
        fleet.down()
        for name in set(sys.modules) - before:
            del sys.modules[name]


async def test_four_files_and_four_entries_are_a_running_system(newcomers: tuple[TestedFleet, str]) -> None:
    fleet, url = newcomers
    seat: Any = importlib.import_module("app.domain.seat")
    async with aiohttp.ClientSession() as session:
        shop = Shop(fleet.settings, session)
        try:
            await _live_through(shop, session, url, seat)
        finally:
            await shop.close()


async def _live_through(shop: Shop, session: aiohttp.ClientSession, url: str, seat: Any) -> None:
    forgotten, wanted = shop.ids(0, 1, "seat")[0], shop.ids(1, 1, "seat")[0]
    await shop.send(seat.SEAT, seat.HoldSeat(forgotten, "b1"), at=utc_now() - timedelta(minutes=30))

    async def hold(booking: str) -> tuple[int, Any]:
        async with session.post(f"{url}/commands/HoldSeat", json={"seat": wanted, "booking": booking}) as got:
            return got.status, await got.json(content_type=None)

    assert (await hold("b2"))[0] == 201
    status, problem = await hold("b3")
    assert (status, problem["reason"]) == (409, "seat_taken")
    await shop.until(f"{url}/seats/{wanted}", lambda _, row: row == {"seat": wanted, "booking": "b2"})

    def waits(_: int, one: Any) -> bool:
        return bool(one.get("waiting_for") == "the end of the booking" and one["state"]["booking"] == "b2")

    await shop.until(f"{url}/chains/holding/{wanted}", waits)
    await shop.until(f"{url}/chains/holding/{forgotten}", lambda _, one: bool(one.get("finished")))
    await shop.until(f"{url}/seats/{forgotten}", lambda status, _: status == 404)
    events = (await shop.get(f"{url}/seats/{forgotten}/history"))[1]["events"]
    assert [event["type"] for event in events] == ["seat.held.v1", "seat.released.v1"]

    # Three of the four partitions have no event of that minute, one has none at all: they are idle, and waited for.
    name = f"{url}/windows/holds-per-minute"
    window = await shop.until(name, lambda _, one: bool(one["finals"]) and bool(one["open"]))
    assert ([one["count"] for one in window["finals"]], [one["count"] for one in window["open"]]) == ([1], [1])
    (final,) = await shop.told(shop.topics.finals("holds-per-minute"))
    assert final["data"] == window["finals"][0]
