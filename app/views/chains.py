"""Chains over HTTP: `GET /chains/{name}/{id}` says where an instance stands, what it waits for, and since when."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from app.views.places import Places, position_of, store_of
from app.views.problems import Problem, answer
from app.views.served import ServedChain
from tables.chains import instances_of


class ChainViews:
    """One chain's route. Used in the web thread."""

    def __init__(self, places: Places, served: ServedChain) -> None:
        self._places = places
        self._name = served.chain.name
        self._agent = served.chaining
        self._table = instances_of(served.chain)

    def add_to(self, web_app: web.Application) -> None:
        """Add the route."""
        web_app.router.add_get(f"/chains/{self._name}/{{id}}", self.instance)

    async def instance(self, request: web.Request) -> web.Response:
        """One instance; 404 where the chain has never cared for it."""
        id_ = request.match_info["id"]
        partition = self._places.partition(id_)
        shard = self._places.here(self._agent, partition)
        if shard is None:
            return await self._places.forward(request, self._agent, partition)
        position = position_of(shard)
        raw = store_of(shard).get(self._table.prefix + id_.encode())
        if raw is None:
            raise Problem(404, "not_found", f"{self._name} has no instance {id_[:128]} (yet)")
        found: Any = self._table.decode(raw)
        body = {
            "id": id_,
            "state": found.state,
            "waiting_for": found.waiting_for or None,
            "since": found.since,
            "finished": found.finished,
            "timers": found.timers,
            "correlation_id": found.correlation_id,
        }
        return answer(body, headers={"Eventfleet-Position": position})
