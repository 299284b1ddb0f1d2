"""A poisoned order, through the command line: it stops no other, and comes back whole with the next release."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp

from app.domain.order import ORDER, CreateOrder, Item, ProcessPayment, ShipOrder
from app.kernel import Command, Envelope, stream_id_of
from app.runtime.codec import Codec, utc_now
from app.runtime.kafka.sender import RecordSender
from app.runtime.ports import TopicPartition
from app.runtime.topics import Topics, partition_of
from tests.integration.fleet import TestedFleet
from tests.integration.poisoned import POISON

APPLICATION = "tests.integration.poisoned"
TIMEOUT_S = 30.0
CODEC = Codec(ORDER.commands)


class Office:
    """Sends commands, looks at the orders, and calls `fleet deadletters` as a person does."""

    def __init__(self, fleet: TestedFleet, directory: Path, sender: RecordSender) -> None:
        self._fleet, self._directory, self._sender = fleet, directory, sender
        self._topics = Topics(fleet.settings.topic_prefix)

    async def send(self, *commands: Command) -> None:
        for command in commands:
            id_ = stream_id_of(command)
            value = CODEC.encode(Envelope(f"{type(command).wire_name}:{id_}", id_, utc_now(), command), "/office")
            await self._put(self._topics.commands("orders"), id_, value)

    async def spoil(self, id_: str) -> None:
        """Something that is no event, among the events."""
        await self._put(self._topics.events("orders"), id_, b"garbage")

    async def _put(self, topic: str, id_: str, value: bytes) -> None:
        partition = TopicPartition(topic, partition_of(id_, self._fleet.settings.partitions))
        await self._sender.send(partition, id_.encode(), value)

    async def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`fleet deadletters …`, from a directory where no fleet runs."""
        told = {"FLEET_BROKERS": self._fleet.settings.brokers, "FLEET_TOPIC_PREFIX": self._fleet.settings.topic_prefix}
        command = [sys.executable, "-m", "app.cli.main", "deadletters", *arguments]
        environment = {**os.environ, **told, "PYTHONPATH": os.getcwd()}
        return await asyncio.to_thread(
            subprocess.run, command, cwd=self._directory, env=environment, capture_output=True, text=True, check=False
        )

    async def listed(self, until: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """What is listed, once it is as wanted."""
        found: list[dict[str, Any]] = []
        try:
            async with asyncio.timeout(TIMEOUT_S):
                while True:
                    told = await self.call("list", "--json")
                    assert told.returncode == 0, told.stderr
                    found = [json.loads(line) for line in told.stdout.splitlines()]
                    if until(found):
                        return found
        except TimeoutError:
            raise AssertionError(f"listed at last: {found}") from None

    async def order(self, worker: str, id_: str, version: int) -> Any:
        """The order's row, once it has come so far."""
        url = f"{self._fleet.worker(worker).url}/orders/{id_}"
        async with aiohttp.ClientSession() as session, asyncio.timeout(TIMEOUT_S):
            while True:
                async with session.get(url) as got:
                    row = await got.json()
                    if got.status == 200 and row["version"] >= version:
                        return row
                await asyncio.sleep(0.05)


def order(id_: str, name: str) -> list[Command]:
    created = CreateOrder(id_, "c", name, "c@example.org", (Item("p", 1, Decimal("3.00")),))
    return [created, ProcessPayment(id_, f"pay-{id_}", Decimal("3.00"))]


async def test_a_poisoned_order_comes_back_whole_with_the_next_release(fleet: TestedFleet, tmp_path: Path) -> None:
    sender = RecordSender(fleet.settings.brokers)
    office = Office(fleet, tmp_path, sender)
    try:
        await fleet.up(fleet.worker("old", application=APPLICATION, poisoned="1"))
        await office.send(*order("bad", POISON), *order("good", "Ann"))
        await office.spoil("good")
        assert (await office.order("old", "good", 2))["status"] == "paid"
        readers = {one["agent"] for one in await office.listed(lambda found: len(found) > 5)}
        assert not [agent for agent in readers if agent.startswith("indexing")]
        assert (await office.call("discard", "--key", "good", "--yes")).returncode == 0

        (waiting,) = await office.listed(lambda found: [one["records"] for one in found] == [2])
        assert (waiting["agent"], waiting["key"], waiting["cause"]) == ("projecting-orders", "bad", "raised")
        assert waiting["first_error"] == "ZeroDivisionError: cannot project an order of Poison"
        shown = (await office.call("show", "--key", "bad")).stdout
        assert "order.created.v1" in shown
        assert "an earlier record of this key" in shown
        again = await office.call("redrive", "--agent", "projecting-orders")
        assert (again.returncode, "0 redriven, 2 left; it failed again: raised" in again.stdout) == (1, True), again
        fleet.worker("old").stop()

        await fleet.up(fleet.worker("new", application=APPLICATION))
        mended = await office.call("redrive", "--all")
        assert (mended.returncode, mended.stdout) == (0, "projecting-orders  bad: 2 redriven\n"), mended
        assert (await office.order("new", "bad", 2))["status"] == "paid"
        await office.send(ShipOrder("bad", "parcel"))
        assert (await office.order("new", "bad", 3))["status"] == "shipped", "the key is parked no longer"
        assert (await office.call("list")).stdout == "Nothing lies in the dead letters.\n"
        refused = await office.call("redrive")
        assert (refused.returncode, "say which" in refused.stderr) == (2, True)
    finally:
        await sender.close()
