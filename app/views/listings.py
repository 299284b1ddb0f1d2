"""Lists over HTTP: the rows of one key, newest first, such as `GET /customers/{id}/orders?after=&limit=`."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec
from aiohttp import web

from app.kernel import Listing
from app.runtime.shard import Shard
from app.views.operations import QUERY_PROBLEMS, Answer, Operation, serve
from app.views.parameters import ListPage, id_in, parse
from app.views.places import Places, position_of, store_of
from app.views.problems import Problem, answer
from app.views.served import ServedReadModel
from tables.read_models import list_key, listed_key, place_in, read_model_of

R = TypeVar("R")


class ListAnswer(msgspec.Struct, Generic[R]):
    """A page: `next` is what to give as `after` for the next one, or `None` at the end."""

    items: list[R]
    next: str | None


class ListingViews:
    """One list's route. Used in the web thread.

    A page goes on after a row's time and name, not after a number of rows: what comes in meanwhile is newer, stands
    before it, and shifts nothing.
    """

    def __init__(self, places: Places, served: ServedReadModel, listing: Listing[Any]) -> None:
        self._places = places
        self._served = served
        self._name = served.projection.name
        self._path = listing.path
        self._row = served.projection.row
        self._table = read_model_of(served.projection)

    def add_to(self, web_app: web.Application) -> None:
        """Add the route."""
        list_answer: Any = ListAnswer
        told = Operation(
            "GET",
            self._path,
            f"A list of {self._name}, newest first",
            {200: Answer("A page of it.", list_answer[self._row], ["Eventfleet-Position"])},
            query=ListPage,
            problems=(404, *QUERY_PROBLEMS),
        )
        serve(web_app, told, self.page)

    async def page(self, request: web.Request) -> web.Response:
        """A page of a list; 404 where the key has no rows at all."""
        page = parse(request, ListPage)
        key = id_in(request)
        partition, agent = self._places.partition(key), self._places.live(self._served)
        shard = self._places.here(agent, partition)
        if shard is None:
            return await self._places.forward(request, agent, partition)
        position = position_of(shard)
        items, after = self._read(shard, key, page)
        if not items and page.after is None:
            raise Problem(404, "not_found", f"There is no {key[:128]} in {self._name} (yet)")
        return answer(ListAnswer(items, after), headers={"Eventfleet-Position": position})

    def _read(self, shard: Shard, key: str, page: ListPage) -> tuple[list[Any], str | None]:
        prefix = self._table.prefix
        cursor = None if page.after is None else prefix + _cursor(key, page.after)
        found = store_of(shard).scan(prefix + list_key(key), cursor, page.limit, backwards=True)
        items = [self._table.decode(raw).row for _, raw in found]
        if len(found) < page.limit:
            return items, None
        place, item = place_in(found[-1][0][len(prefix) :], key)
        return items, f"{place}~{item}"


def _cursor(key: str, after: str) -> bytes:
    place, _, item = after.partition("~")
    try:
        return listed_key(key, int(place), item)
    except OverflowError as error:
        raise Problem(422, "invalid_parameters", "after: give the next of the page before") from error
