"""Time travel: a read model's row as it was after an event, or at a time, made of the stream's history."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from app.runtime.codec import Codec
from app.views.parameters import Row
from app.views.places import Places, position_of, store_of
from app.views.problems import Problem, answer
from app.views.served import ServedReadModel
from tables.event_store import EventStore

EVENTS_MAX = 10_000
"""A stream that is longer is not replayed for a query."""


class PastRows:
    """One read model's rows of the past. Used in the web thread, at the worker that has the stream's history."""

    def __init__(self, places: Places, served: ServedReadModel) -> None:
        self._places = places
        self._projection = served.projection
        self._aggregate = served.of.aggregate
        self._indexing = served.of.indexing
        self._codec = Codec.of_events(served.of.aggregate)

    async def row(self, request: web.Request, row_id: str, moment: Row) -> web.Response:
        """The row at a moment; 404 where the stream did not exist, or has not come so far."""
        partition = self._places.partition(row_id)
        shard = self._places.here(self._indexing, partition)
        if shard is None:
            return await self._places.forward(request, self._indexing, partition)
        position = position_of(shard)
        store = EventStore(self._aggregate, store_of(shard), self._codec)
        row, version = self._replay(store, row_id, moment)
        if row is None or (moment.version or 0) > version:
            raise Problem(404, "not_found", f"There was no {row_id[:128]} in {self._projection.name} at that moment")
        return answer(row, headers={"ETag": f'"{version}"', "Eventfleet-Position": position})

    def _replay(self, store: EventStore, row_id: str, moment: Row) -> tuple[Any, int]:
        row, version = None, 0
        for envelope in store.history(row_id):
            if moment.version is not None and version == moment.version:
                break
            if moment.as_of is not None and envelope.time > moment.as_of:
                break
            if version >= EVENTS_MAX:
                raise Problem(422, "history_too_long", f"{row_id[:128]} has more than {EVENTS_MAX} events")
            row, version = self._projection.project(row, envelope), version + 1
        return row, version
