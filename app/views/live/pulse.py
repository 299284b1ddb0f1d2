"""A worker's pulse: how many streams it has seen begin in each of the last seconds, and what waits for it.

Counted where rounds are committed, exactly and at any rate: notifications may be lost.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec
from aiohttp import web

from app.runtime.role import RoleApp
from app.runtime.shard import Shard
from app.runtime.unit import Emitted
from app.runtime.world import Rows
from app.views.operations import Answer, Operation, serve
from app.views.problems import answer
from tables.event_store import HISTORY

SECONDS = 60
_FIRST = (1).to_bytes(8, "big")


class Pulse(msgspec.Struct, frozen=True):
    """One worker's figures. `begun` are per second, the oldest first; the last is the last whole second."""

    group: str
    lag: int
    begun: tuple[int, ...]


class PulseViews:
    """Counts in the worker's loop, answers in the web thread. `indexing` is the agent whose streams are counted."""

    def __init__(self, app: RoleApp, indexing: str) -> None:
        self._app = app
        self._indexing = indexing
        self._begun: dict[int, int] = {}

    def add_to(self, web_app: web.Application) -> None:
        """Add the route: it is for other workers."""
        says = {200: Answer("The figures.", Pulse)}
        told = Operation("GET", "/pulse", "This worker's lag, and the orders it saw begin", says, "worker", problems=())
        serve(web_app, told, self.get)

    def round_done(self, shard: Shard, rows: Rows, emitted: Sequence[Emitted]) -> None:
        """A round is committed and written."""
        if shard.agent.name != self._indexing:
            return
        begun = sum(1 for key in rows if key.endswith(_FIRST) and key.startswith(HISTORY.prefix))
        if begun:
            second = int(time.time())
            self._begun[second] = self._begun.get(second, 0) + begun
            for old in [at for at in self._begun if at < second - SECONDS - 1]:
                del self._begun[old]

    def now(self) -> Pulse:
        """The figures of this worker."""
        end, begun = int(time.time()), dict(self._begun)
        per_second = tuple(begun.get(second, 0) for second in range(end - SECONDS, end))
        return Pulse(self._app.fleet_settings.group, sum(dict(self._app.lag).values()), per_second)

    async def get(self, _: web.Request) -> web.Response:
        """This worker's pulse."""
        return answer(self.now())
