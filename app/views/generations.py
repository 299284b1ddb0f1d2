"""Generations of read models over HTTP: how each stands, how far a new one has come, where two differ.

`fleet projections` asks these of every worker; a worker tells what it has itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from aiohttp import web

from app.kernel import Keyed
from app.runtime.comparing import Comparison
from app.runtime.generations import Standing
from app.runtime.shard import Shard
from app.views.operations import QUERY_PROBLEMS, Answer, Operation, serve
from app.views.parameters import Differing, parse
from app.views.places import Places, store_of
from app.views.problems import Problem, answer, not_ready
from app.views.served import ServedReadModel
from tables.read_models import read_model_of


class StandingTold(msgspec.Struct):
    """How a read model stands: the generation that is read, the one that is built, the one on its way out."""

    name: str
    keyed: str
    live: int
    building: int | None
    retiring: int | None
    since: datetime | None


class StandingsAnswer(msgspec.Struct):
    """All read models, as this worker knows them."""

    items: list[StandingTold]


class ShardTold(msgspec.Struct):
    """One agent in one partition here. `lag` is how many records wait for it, `None` while that is not known."""

    agent: str
    partition: int
    joined: bool
    lag: int | None
    parked: int


class ReadModelAnswer(msgspec.Struct):
    """One read model at this worker. `left_out` says why a generation cannot be opened here."""

    worker: str
    standing: StandingTold
    shards: list[ShardTold]
    left_out: str | None


class Difference(msgspec.Struct):
    """One key's row in both generations; `key` is printable."""

    key: str
    live: Any
    building: Any


class DifferencesAnswer(msgspec.Struct):
    """How many keys were compared, those that differ, and what to give as `after` for the next page."""

    compared: int
    differences: list[Difference]
    next: str | None


class GenerationViews:
    """The routes. Used in the web thread; rows are compared in the worker's loop, between two rounds."""

    def __init__(self, places: Places, served: Sequence[ServedReadModel]) -> None:
        self._places = places
        self._app = places.app
        self._served: Mapping[str, ServedReadModel] = {one.projection.name: one for one in served}

    def add_to(self, web_app: web.Application) -> None:
        """Add the routes."""
        tag, path = "operations", "/projections/{name}"
        all_ = {200: Answer("The generations of each.", StandingsAnswer)}
        one = {200: Answer("Its generations, and what this worker has of them.", ReadModelAnswer)}
        differ = {200: Answer("A page of them.", DifferencesAnswer)}
        serve(web_app, Operation("GET", "/projections", "All read models", all_, tag=tag, problems=()), self.all)
        serve(web_app, Operation("GET", path, "How a read model stands", one, tag=tag, problems=(404,)), self.one)
        told = Operation(
            "GET",
            f"{path}/differences",
            "Where a generation that is being built differs from the one that is read",
            differ,
            tag=tag,
            query=Differing,
            problems=(404, 409, *QUERY_PROBLEMS),
        )
        serve(web_app, told, self.differences)

    async def all(self, _: web.Request) -> web.Response:
        """How each read model stands."""
        return answer(StandingsAnswer([self._told(one) for one in self._served.values()]))

    async def one(self, request: web.Request) -> web.Response:
        """What is here of one read model."""
        served = self._find(request)
        standing = self._app.generations.of(served.projection.name)
        agents = {agent for number in standing.running for agent in served.agents_of(number)}
        pipelines = list(self._app.holdings.pipelines.values())
        shards = [shard for pipeline in pipelines if pipeline.ready for shard in pipeline.shards]
        told = [self._shard(shard) for shard in shards if shard.agent.name in agents and shard.restored]
        left_out = next((pipeline.left_out for pipeline in pipelines if pipeline.left_out), None)
        return answer(ReadModelAnswer(self._app.fleet_settings.worker, self._told(served), told, left_out))

    async def differences(self, request: web.Request) -> web.Response:
        """A page of what differs in one partition; 409 where nothing is being built."""
        query, served = parse(request, Differing), self._find(request)
        standing = self._app.generations.of(served.projection.name)
        if standing.building is None:
            raise Problem(409, "nothing_is_built", f"No generation of {served.projection.name} is being built")
        agent = served.agent_of(standing.building)
        shard = self._places.here(agent, query.partition)
        live = self._places.here(served.agent_of(standing.live), query.partition)
        if shard is None or live is None:
            return await self._places.forward(request, agent, query.partition)
        comparison = Comparison(store_of(live), store_of(shard), read_model_of(served.projection).prefix)
        after = None if query.after is None else bytes.fromhex(query.after)
        if self._app.loop is None:
            raise not_ready("the worker is starting")
        comparing = asyncio.run_coroutine_threadsafe(comparison.page(after, query.limit, asyncio.sleep), self._app.loop)
        found = await asyncio.wrap_future(comparing)
        skip = len(read_model_of(served.projection).prefix)
        items = [Difference(_printable(key[skip:], served), *pair.rows) for key, pair in found.different.items()]
        return answer(DifferencesAnswer(found.keys, items, None if found.after is None else found.after.hex()))

    def _find(self, request: web.Request) -> ServedReadModel:
        found = self._served.get(request.match_info["name"])
        if found is None:
            raise Problem(404, "unknown_projection", f"There is none of that name; there are {', '.join(self._served)}")
        return found

    def _told(self, served: ServedReadModel) -> StandingTold:
        projection = served.projection
        s: Standing = self._app.generations.of(projection.name)
        return StandingTold(projection.name, projection.keyed.value, s.live, s.building, s.retiring, s.since)

    def _shard(self, shard: Shard) -> ShardTold:
        lags = [self._app.lag_of(topic, shard.partition, shard.position(topic)) for topic in shard.agent.sources]
        known = None if None in lags else sum(lag for lag in lags if lag is not None)
        return ShardTold(shard.agent.name, shard.partition, shard.joined, known, len(shard.parked))


def _printable(key: bytes, served: ServedReadModel) -> str:
    if served.projection.keyed is Keyed.BY_KEY and served.projection.listing is not None:
        size = int.from_bytes(key[:2], "big")
        return f"{key[2 : 2 + size].decode(errors='replace')} › {key[2 + size + 8 :].decode(errors='replace')}"
    return key.decode(errors="replace")
