"""Read models over HTTP: `GET /{name}/{id}` and `GET /{name}?after=&limit=`, from whichever worker has the rows."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import msgspec
from aiohttp import web

from app.runtime.shard import Shard
from app.views.commits import Commits
from app.views.parameters import Page, Row, parse
from app.views.past_rows import PastRows
from app.views.places import Places, position_of, store_of
from app.views.problems import Problem, answer, not_ready
from app.views.served import ServedReadModel
from tables.read_models import Projected, read_model_of

SCAN_ROWS = 200

Item = tuple[str, Any]
"""A row's key and the row."""


class RowsPage(msgspec.Struct):
    """A page: `next` is what to give as `after` for the next one, or `None` at the end."""

    items: list[Any]
    next: str | None
    positions: dict[str, str]


class ReadModelViews:
    """One read model's routes. Used in the web thread; reads the stores, never a round's overlay."""

    def __init__(self, places: Places, commits: Commits, served: ServedReadModel) -> None:
        self._places = places
        self._commits = commits
        self._agent = served.projecting
        self._name = served.projection.name
        self._table = read_model_of(served.projection)
        self._past = PastRows(places, served)
        self._wait_s = places.app.fleet_settings.outcome_wait_ms / 1000

    def add_to(self, web_app: web.Application) -> None:
        """Add the routes."""
        web_app.router.add_get(f"/{self._name}", self.page)
        web_app.router.add_get(f"/{self._name}/{{id}}", self.row)

    async def row(self, request: web.Request) -> web.Response:
        """One row, with its version as the ETag and the worker's position in the sources."""
        wanted = parse(request, Row)
        row_id = request.match_info["id"]
        if wanted.version is not None or wanted.as_of is not None:
            return await self._past.row(request, row_id, wanted)
        partition = self._places.partition(row_id)
        shard = self._places.here(self._agent, partition)
        if shard is None:
            return await self._places.forward(request, self._agent, partition)
        position = position_of(shard)
        found = await self._at_least(shard, row_id, wanted.min_version)
        if found is None or found.row is None:
            raise Problem(404, "not_found", f"There is no {row_id[:128]} in {self._name} (yet)")
        headers = {"ETag": f'"{found.version}"', "Eventfleet-Position": position}
        if request.headers.get("If-None-Match") == headers["ETag"]:
            return web.Response(status=304, headers=headers)
        return answer(found.row, headers=headers)

    async def _at_least(self, shard: Shard, row_id: str, version: int | None) -> Projected[Any] | None:
        key = self._table.prefix + row_id.encode()
        found = self._read(shard, key)
        if version is None or (found is not None and found.version >= version):
            return found
        with self._commits.watch(self._agent, key) as changed:
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
        everywhere = range(self._places.partitions)
        wanted = list(everywhere) if page.partitions is None else [int(n) for n in page.partitions.split(",")]
        if unknown := [number for number in wanted if number not in everywhere]:
            raise Problem(422, "invalid_parameters", f"There are no partitions {unknown}")
        parts = await asyncio.gather(
            *(self._part(request, page, numbers) for numbers in self._by_place(request, wanted))
        )
        items = sorted((item for part in parts for item in part[0]), key=lambda item: item[0])[: page.limit]
        full = len(items) == page.limit
        positions = {name: at for part in parts for name, at in part[1].items()}
        body = RowsPage([row for _, row in items], items[-1][0] if full else None, positions)
        if page.partitions is not None:  # another worker asks: it merges by key
            return answer({"items": items, "positions": positions})
        return answer(body)

    def _by_place(self, request: web.Request, wanted: list[int]) -> list[list[int]]:
        """The partitions in groups that one worker has each."""
        groups: dict[str, list[int]] = {}
        for number in wanted:
            here = self._places.here(self._agent, number)
            url = "" if here is not None else self._places.owner(request, self._agent, number).url
            groups.setdefault(url, []).append(number)
        return list(groups.values())

    async def _part(self, request: web.Request, page: Page, numbers: list[int]) -> tuple[list[Item], dict[str, str]]:
        shards = [self._places.here(self._agent, number) for number in numbers]
        if None not in shards:
            return self._scan([shard for shard in shards if shard is not None], page)
        query = {"limit": str(page.limit), "partitions": ",".join(map(str, numbers))}
        query |= {} if page.after is None else {"after": page.after}
        entry = self._places.owner(request, self._agent, numbers[0])
        status, body, _ = await self._places.ask(entry, "GET", f"/{self._name}?{urlencode(query)}")
        if status != 200:
            raise not_ready(f"worker {entry.worker} cannot serve partitions {numbers} of {self._name} now")
        got = msgspec.json.decode(body)
        return [(key, row) for key, row in got["items"]], got["positions"]

    def _scan(self, shards: list[Shard], page: Page) -> tuple[list[Item], dict[str, str]]:
        items: list[Item] = []
        positions: dict[str, str] = {}
        for shard in shards:
            positions[str(shard.partition)] = position_of(shard)
            items += itertools.islice(self._rows(shard, page.after), page.limit)
        return items, positions

    def _rows(self, shard: Shard, after: str | None) -> Iterator[Item]:
        prefix = self._table.prefix
        cursor = None if after is None else prefix + after.encode()
        while found := store_of(shard).scan(prefix, cursor, SCAN_ROWS):
            for key, raw in found:
                row = self._table.decode(raw).row
                if row is not None:
                    yield key[len(prefix) :].decode(), row
            cursor = found[-1][0]
