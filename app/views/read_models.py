"""Read models over HTTP: `GET /{name}/{id}` and `GET /{name}?after=&limit=`, from whichever worker has the rows."""

from __future__ import annotations

import asyncio
from typing import Any, Generic, TypeVar

import msgspec
from aiohttp import web

from app.kernel import Keyed
from app.runtime.shard import Shard
from app.views.commits import Commits
from app.views.gathering import Gathering
from app.views.operations import QUERY_PROBLEMS, Answer, Operation, serve
from app.views.parameters import Page, Row, id_in, parse
from app.views.past_rows import PastRows
from app.views.places import Places, position_of, store_of
from app.views.problems import Problem, answer, not_ready
from app.views.served import ServedReadModel
from tables.read_models import Projected, read_model_of

R = TypeVar("R")


class RowsPage(msgspec.Struct, Generic[R]):
    """A page: `next` is what to give as `after` for the next one, or `None` at the end."""

    items: list[R]
    next: str | None
    positions: dict[str, str]


WITHOUT: dict[Keyed, tuple[str, ...]] = {
    Keyed.BY_STREAM: (),
    Keyed.BY_KEY: ("version", "as_of"),
    Keyed.BY_PARTIAL: ("version", "as_of", "min_version"),
}
"""The parameters that a row does not have, by what it is kept."""


class ReadModelViews:
    """One read model's routes. Used in the web thread; reads the stores, never a round's overlay."""

    def __init__(self, places: Places, commits: Commits, served: ServedReadModel) -> None:
        self._places = places
        self._commits = commits
        self._served = served
        self._name = served.projection.name
        self._keyed = served.projection.keyed
        self._row = served.projection.row
        self._table = read_model_of(served.projection)
        self._past = PastRows(places, served)
        self._gathering = Gathering(places, served)
        self._wait_s = places.app.fleet_settings.outcome_wait_ms / 1000

    def add_to(self, web_app: web.Application) -> None:
        """Add the routes."""
        page: Any = RowsPage
        told = Operation(
            "GET",
            f"/{self._name}",
            f"All rows of {self._name}, in pages, gathered from every worker",
            {200: Answer("A page of them.", page[self._row])},
            query=Page,
        )
        serve(web_app, told, self.page)
        headers = ["ETag", "Eventfleet-Position"]
        told = Operation(
            "GET",
            f"/{self._name}/{{id}}",
            f"One row of {self._name}",
            {200: Answer("The row.", self._row, headers), 304: Answer("It is unchanged.", headers=headers)},
            query=Row,
            without=WITHOUT[self._keyed],
            headers=["If-None-Match"],
            problems=(404, *QUERY_PROBLEMS),
        )
        serve(web_app, told, self.row)

    async def row(self, request: web.Request) -> web.Response:
        """One row, with its version as the ETag and the worker's position in the sources."""
        wanted = parse(request, Row)
        self._refuse_what_there_is_not(wanted)
        row_id = id_in(request)
        if wanted.version is not None or wanted.as_of is not None:
            return await self._past.row(request, row_id, wanted)
        if self._keyed is Keyed.BY_PARTIAL:
            return await self._merged_row(request, row_id)
        partition, agent = self._places.partition(row_id), self._places.live(self._served)
        shard = self._places.here(agent, partition)
        if shard is None:
            return await self._places.forward(request, agent, partition)
        position = position_of(shard)
        found = await self._at_least(shard, row_id, wanted.min_version)
        if found is None or found.row is None:
            raise self._not_found(row_id)
        return _row_answer(request, found.row, found.version, position)

    def _refuse_what_there_is_not(self, wanted: Row) -> None:
        past = wanted.version is not None or wanted.as_of is not None
        if past and self._keyed is not Keyed.BY_STREAM:
            raise Problem(
                422,
                "invalid_parameters",
                f"A row of {self._name} is made of many streams: it has no ?version and no ?as_of, as only rows of one "
                "stream have",
            )
        if wanted.min_version is not None and self._keyed is Keyed.BY_PARTIAL:
            raise Problem(422, "invalid_parameters", f"A row of {self._name} has parts: it has no ?min_version")

    def _not_found(self, row_id: str) -> Problem:
        return Problem(404, "not_found", f"There is no {row_id[:128]} in {self._name} (yet)")

    async def _merged_row(self, request: web.Request, row_id: str) -> web.Response:
        """A row of which every partition has a part. Its version is the number of events in all of them."""
        gathered = await self._gathering.gather(request, Page(only=row_id, limit=1))
        if not gathered.items:
            raise self._not_found(row_id)
        _, version, row = gathered.items[0]
        return _row_answer(request, row, version, ",".join(at for _, at in sorted(gathered.positions.items())))

    async def _at_least(self, shard: Shard, row_id: str, version: int | None) -> Projected[Any] | None:
        key = self._table.prefix + row_id.encode()
        found = self._read(shard, key)
        if version is None or (found is not None and found.version >= version):
            return found
        with self._commits.watch(shard.agent.name, key) as changed:
            try:
                async with asyncio.timeout(self._wait_s):
                    while (found := self._read(shard, key)) is None or found.version < version:
                        changed.clear()
                        await changed.wait()
            except TimeoutError:
                raise not_ready(f"{row_id} has not come to version {version} yet") from None
        return found

    def _read(self, shard: Shard, key: bytes) -> Projected[Any] | None:
        raw = store_of(shard).get(key)
        return None if raw is None else self._table.decode(raw)

    async def page(self, request: web.Request) -> web.Response:
        """A page over all partitions, in key order: gathered from every worker and merged."""
        page = parse(request, Page)
        gathered = await self._gathering.gather(request, page)
        if page.partitions is not None:  # another worker asks: it merges by key
            return answer(gathered)
        items = gathered.items
        after = items[-1].key if len(items) == page.limit else None
        return answer(RowsPage([item.row for item in items], after, gathered.positions))


def _row_answer(request: web.Request, row: Any, version: int, position: str) -> web.Response:
    headers = {"ETag": f'"{version}"', "Eventfleet-Position": position}
    if request.headers.get("If-None-Match") == headers["ETag"]:
        return web.Response(status=304, headers=headers)
    return answer(row, headers=headers)
