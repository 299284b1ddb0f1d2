"""Histories over HTTP: `GET /{category}/{id}/history`, all events of one stream, from the event store's index."""

from __future__ import annotations

import itertools
from datetime import datetime
from typing import Any

import msgspec
from aiohttp import web

from app.runtime.codec import Codec
from app.views.operations import QUERY_PROBLEMS, Answer, Operation, serve
from app.views.parameters import HistoryPage, id_in, parse
from app.views.places import Places, position_of, store_of
from app.views.problems import Problem, answer
from app.views.served import ServedAggregate
from tables.event_store import EventStore


class RecordAnswer(msgspec.Struct):
    """A record: a CloudEvent, in the version in which it was written."""

    specversion: str
    id: str
    type: str
    source: str
    subject: str
    time: datetime
    version: int
    data: dict[str, Any]


class HistoryAnswer(msgspec.Struct):
    """A page: `next` is what to give as `after` for the next one, or `None` at the end."""

    events: list[RecordAnswer]
    next: int | None


class HistoryViews:
    """One category's route. Used in the web thread."""

    def __init__(self, places: Places, served: ServedAggregate) -> None:
        self._places = places
        self._served = served
        self._codec = Codec.of_events(served.aggregate)

    def add_to(self, web_app: web.Application) -> None:
        """Add the route."""
        category = self._served.aggregate.category
        told = Operation(
            "GET",
            f"/{category}/{{id}}/history",
            f"The events of one stream of {category}, in order, as they were written",
            {200: Answer("A page of them.", HistoryAnswer, ["Eventfleet-Position"])},
            query=HistoryPage,
            problems=(404, *QUERY_PROBLEMS),
        )
        serve(web_app, told, self.history)

    async def history(self, request: web.Request) -> web.Response:
        """The stream's events as CloudEvents, in order; `next` is what to give as `after` for the next page."""
        page = parse(request, HistoryPage)
        stream_id = id_in(request)
        partition = self._places.partition(stream_id)
        shard = self._places.here(self._served.indexing, partition)
        if shard is None:
            return await self._places.forward(request, self._served.indexing, partition)
        position = position_of(shard)
        store = EventStore(self._served.aggregate, store_of(shard), self._codec)
        records = list(itertools.islice(store.records(stream_id, after=page.after), page.limit))
        if not records and page.after == 0:
            raise Problem(
                404, "not_found", f"There is no stream {stream_id[:128]} in {self._served.aggregate.category}"
            )
        more = len(records) == page.limit
        events: list[Any] = [msgspec.Raw(raw) for _, raw in records]
        body = HistoryAnswer(events, records[-1][0] if more else None)
        return answer(body, headers={"Eventfleet-Position": position})
