"""A command whose bucket moves under it is refused before it is sent, and taken once it is: never 500."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from agents.deciding import deciding_name
from agents.indexing import indexing_name
from app.catalogue import CATALOGUE
from app.domain.order import ORDER
from app.runtime.flow import Flow
from app.runtime.ports import Progress, TopicPartition
from app.runtime.settings import Settings
from app.runtime.shard import Shard
from app.runtime.topics import Topics
from app.views.admission import Admission
from app.views.commands import CommandViews
from app.views.commits import Commits
from app.views.places import Places
from app.views.problems import problems
from app.views.served import ServedAggregate
from tables.memory import MemoryStores
from tables.outcomes import OUTCOMES

SETTINGS = Settings(outcome_wait_ms=2_000)
ORDER_BODY = {
    "order_id": "o-1",
    "customer_id": "c-1",
    "customer_name": "Ann",
    "customer_email": "ann@example.org",
    "items": [{"product_id": "p", "quantity": 1, "price": "1.00"}],
}


class Bed:
    """The command side of one worker, on a shard whose store is closed at a chosen moment."""

    def __init__(self) -> None:
        agents = {agent.name: agent for agent in CATALOGUE.agents(SETTINGS, {})}
        self.shard = Shard(agents[deciding_name(ORDER)], 0)
        self.shard.store = self.store = MemoryStores()(self.shard.agent.name, 0)
        self.store.write({}, Progress(0, "log", 0))
        self.shard.restored = True
        self.commits = Commits()
        self.sent: list[bytes] = []
        self.on_sent: Callable[[], object] = bool
        app = SimpleNamespace(fleet_settings=SETTINGS, fleet_topics=Topics())
        places = SimpleNamespace(app=app, partition=lambda key: 0, here=lambda agent, partition: self.shard)
        served = ServedAggregate(ORDER, deciding_name(ORDER), indexing_name(ORDER.category))
        admission = Admission(SETTINGS.requests_max, SETTINGS.outcome_wait_ms / 1000, Flow())
        self._views = CommandViews(cast(Places, places), self.commits, admission, (served,))
        self._views._sender = cast(Any, self)

    async def send(self, partition: TopicPartition, key: bytes, value: bytes) -> None:
        """In place of the sender: what happens once the command is in Kafka."""
        self.sent.append(value)
        self.on_sent()

    async def close(self) -> None:
        """Nothing to let go of."""

    async def post(self) -> tuple[int, dict[str, Any], bool]:
        web_app = web.Application(middlewares=[problems])
        self._views.add_to(web_app)
        async with TestClient(TestServer(web_app)) as client:
            headers = {"Idempotency-Key": "c1", "Content-Type": "application/json"}
            got = await client.post("/commands/CreateOrder", data=json.dumps(ORDER_BODY), headers=headers)
            return got.status, await got.json(), "Retry-After" in got.headers


async def test_where_the_rows_are_on_their_way_it_is_not_sent() -> None:
    bed = Bed()
    bed.store.close()
    status, told, retry = await bed.post()
    assert (status, told["title"], retry, bed.sent) == (503, "not ready", True, [])


async def test_a_command_whose_outcome_moves_away_as_it_comes_is_taken() -> None:
    bed = Bed()

    def moves() -> None:
        bed.store.close()
        rows = {OUTCOMES.prefix + b"c1": b"its outcome"}
        asyncio.get_running_loop().call_later(0.01, bed.commits.committed, bed.shard, rows)

    bed.on_sent = moves
    status, told, _ = await bed.post()
    assert (status, told["command_id"], len(bed.sent)) == (202, "c1", 1)
    assert told["status"] == "/commands/c1?key=o-1"
