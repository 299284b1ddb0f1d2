"""Chains over HTTP: where an instance stands, what it waits for, since when; and all that wait, the longest first."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec
from aiohttp import web

from app.views.operations import QUERY_PROBLEMS, Answer, Operation, serve
from app.views.parameters import id_in
from app.views.places import Places, position_of, store_of
from app.views.problems import Problem, answer
from app.views.served import ServedChain
from app.views.waiting import WaitingViews
from tables.chains import instances_of

S = TypeVar("S")


class InstanceAnswer(msgspec.Struct, Generic[S]):
    """One instance: where it stands, what it waits for, and since when. `timers` are due at these times."""

    id: str
    state: S
    waiting_for: str | None
    since: datetime
    finished: bool
    timers: dict[str, datetime]
    correlation_id: str | None


class ChainViews:
    """One chain's routes. Used in the web thread."""

    def __init__(self, places: Places, served: ServedChain) -> None:
        self._places = places
        self._name = served.chain.name
        self._state = served.chain.state_type
        self._agent = served.chaining
        self._table = instances_of(served.chain)
        self._waiting = WaitingViews(places, served)

    def add_to(self, web_app: web.Application) -> None:
        """Add the routes."""
        instance: Any = InstanceAnswer
        says = Answer("The instance.", instance[self._state], ["Eventfleet-Position"])
        told = Operation(
            "GET",
            f"/chains/{self._name}/{{id}}",
            f"Where an instance of {self._name} stands",
            {200: says},
            problems=(404, *QUERY_PROBLEMS),
        )
        serve(web_app, told, self.instance)
        self._waiting.add_to(web_app)

    async def instance(self, request: web.Request) -> web.Response:
        """One instance; 404 where the chain has never cared for it."""
        id_ = id_in(request)
        partition = self._places.partition(id_)
        shard = self._places.here(self._agent, partition)
        if shard is None:
            return await self._places.forward(request, self._agent, partition)
        position = position_of(shard)
        raw = store_of(shard).get(self._table.prefix + id_.encode())
        if raw is None:
            raise Problem(404, "not_found", f"{self._name} has no instance {id_[:128]} (yet)")
        found: Any = self._table.decode(raw)
        waiting_for = found.waiting_for or None
        body: InstanceAnswer[Any] = InstanceAnswer(
            id_, found.state, waiting_for, found.since, found.finished, found.timers, found.correlation_id
        )
        return answer(body, headers={"Eventfleet-Position": position})
