"""A poisoned order, through the command line: it stops no other, and comes back whole with the next release."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from click.testing import CliRunner, Result

from app.cli import where
from app.cli.main import cli
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

    async def call(self, *arguments: str) -> Result:
        """`fleet deadletters …`, where no fleet runs."""
        told = {"FLEET_BROKERS": self._fleet.settings.brokers, "FLEET_TOPIC_PREFIX": self._fleet.settings.topic_prefix}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(where, "DIRECTORY", self._directory / "none")
            return await asyncio.to_thread(CliRunner().invoke, cli, ["deadletters", *arguments], env=told)

    async def listed(self, until: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """What is listed, once it is as wanted."""
        found: list[dict[str, Any]] = []
        try:
            async with asyncio.timeout(TIMEOUT_S):
                while True:
                    told = await self.call("list", "--json")
                    assert told.exit_code == 0, told.output
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


@pytest.mark.long
async def test_a_poisoned_order_comes_back_whole_with_the_next_release(fleet: TestedFleet, tmp_path: Path) -> None:
    sender = RecordSender(fleet.settings.brokers)
    office = Office(fleet, tmp_path, sender)
    try:
        await fleet.up(fleet.worker("old", application=APPLICATION, poisoned="1"))
        await office.send(*order("bad", POISON), *order("lost", POISON), *order("good", "Ann"))
        await office.spoil("good")
        assert (await office.order("old", "good", 2))["status"] == "paid"
        readers = {one["agent"] for one in await office.listed(lambda found: len(found) > 5)}
        assert not [agent for agent in readers if agent.startswith("indexing")]
        assert (await office.call("discard", "--key", "good", "--yes")).exit_code == 0

        await office.listed(lambda found: [one["records"] for one in found] == [2, 2])
        given_up = await office.call("discard", "--key", "lost", "--yes")
        assert given_up.stdout == "projecting-orders  lost: 2 discarded\n", given_up
        (waiting,) = await office.listed(lambda found: True)
        assert (waiting["agent"], waiting["key"], waiting["cause"]) == ("projecting-orders", "bad", "raised")
        assert waiting["first_error"] == "ZeroDivisionError: cannot project an order of Poison"
        shown = (await office.call("show", "--key", "bad")).stdout
        assert "order.created.v1" in shown
        assert "an earlier record of this key" in shown
        again = await office.call("redrive", "--agent", "projecting-orders")
        assert (again.exit_code, "0 redriven, 2 left; it failed again: raised" in again.stdout) == (1, True), again
        fleet.worker("old").stop()

        await fleet.up(fleet.worker("new", application=APPLICATION))
        mended = await office.call("redrive", "--all")
        assert (mended.exit_code, mended.stdout) == (0, "projecting-orders  bad: 2 redriven\n"), mended
        assert (await office.order("new", "bad", 2))["status"] == "paid"
        await office.send(ShipOrder("bad", "parcel"))
        assert (await office.order("new", "bad", 3))["status"] == "shipped", "the key is parked no longer"
        assert (await office.call("list")).stdout == "Nothing lies in the dead letters.\n"

        await office.send(ShipOrder("lost", "parcel"))
        filled = await office.order("new", "lost", 3)
        assert filled["status"] == "shipped", "what was given up came from the event store"
        refused = await office.call("redrive")
        assert (refused.exit_code, "say which" in refused.stderr) == (2, True)
    finally:
        await sender.close()
