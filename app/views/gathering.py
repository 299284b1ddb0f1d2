"""Gathering rows of a read model from all partitions: from here and from other workers, in key order, parts merged."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec
from aiohttp import web

from app.kernel import Projection
from app.runtime.generations import FIRST
from app.runtime.shard import Shard
from app.views.parameters import Page
from app.views.places import Places, position_of, store_of
from app.views.problems import Problem, not_ready
from app.views.served import ServedReadModel
from tables.read_models import Projected, read_model_of

SCAN_ROWS = 200


class Item(NamedTuple):
    """A row with its key and its version."""

    key: str
    version: int
    row: Any


class Gathered(msgspec.Struct, frozen=True):
    """Rows, and how far the partitions that they come from have got."""

    items: list[Item]
    positions: dict[str, str]


class _Told(msgspec.Struct, frozen=True):
    """What another worker answers."""

    items: list[tuple[str, int, msgspec.Raw]]
    positions: dict[str, str]


class Gathering:
    """Gathers one read model's rows, all of one generation.

    Used in the web thread; reads the stores, never a round's overlay.
    """

    def __init__(self, places: Places, served: ServedReadModel) -> None:
        self._places = places
        self._served = served
        self._projection: Projection[Any] = served.projection
        self._table = read_model_of(served.projection)

    async def gather(self, request: web.Request, page: Page) -> Gathered:
        """The page's rows of the partitions that it names, or of all."""
        everywhere = range(self._places.partitions)
        wanted = list(everywhere) if page.partitions is None else [int(n) for n in page.partitions.split(",")]
        if unknown := [number for number in wanted if number not in everywhere]:
            raise Problem(422, "invalid_parameters", f"There are no partitions {unknown}")
        live = self._places.app.generations.of(self._projection.name).live
        page = page.model_copy(update={"generation": page.generation or live})
        groups = self._by_place(request, page, wanted)
        parts = await asyncio.gather(*(self._part(request, page, numbers) for numbers in groups))
        items = sorted(
            (item for part in parts for item in part.items),
            key=lambda item: item.key,
            reverse=self._projection.newest_first,
        )
        positions = {name: at for part in parts for name, at in part.positions.items()}
        return Gathered(list(self._merged(items))[: page.limit], positions)

    def _merged(self, items: Sequence[Item]) -> Iterator[Item]:
        merge = self._projection.merge
        if merge is None:
            yield from items
            return
        for key, found in itertools.groupby(items, key=lambda item: item.key):
            parts = list(found)
            yield Item(key, sum(part.version for part in parts), reduce(merge, (part.row for part in parts)))

    def _agent(self, page: Page) -> str:
        return self._served.agent_of(page.generation or FIRST)

    def _by_place(self, request: web.Request, page: Page, wanted: list[int]) -> list[list[int]]:
        """The partitions in groups that one worker has each."""
        groups: dict[str, list[int]] = {}
        for number in wanted:
            here = self._places.here(self._agent(page), number)
            url = "" if here is not None else self._places.owner(request, self._agent(page), number).url
            groups.setdefault(url, []).append(number)
        return list(groups.values())

    async def _part(self, request: web.Request, page: Page, numbers: list[int]) -> Gathered:
        shards = [self._places.here(self._agent(page), number) for number in numbers]
        if None not in shards:
            return self._scan([shard for shard in shards if shard is not None], page)
        query = {"limit": str(page.limit), "partitions": ",".join(map(str, numbers))}
        passed = ("after", "only", "generation")
        query |= {name: str(told) for name in passed if (told := getattr(page, name)) is not None}
        entry = self._places.owner(request, self._agent(page), numbers[0])
        status, body, _ = await self._places.ask(entry, "GET", f"/{self._projection.name}?{urlencode(query)}")
        if status != 200:
            raise not_ready(f"worker {entry.worker} cannot serve partitions {numbers} of {self._projection.name} now")
        told = msgspec.json.decode(body, type=_Told)
        return Gathered([Item(key, version, self._row_told(raw)) for key, version, raw in told.items], told.positions)

    def _row_told(self, raw: msgspec.Raw) -> Any:
        """Another worker's row: what nobody merges passes through as it came."""
        return raw if self._projection.merge is None else msgspec.json.decode(raw, type=self._projection.row)

    def _scan(self, shards: list[Shard], page: Page) -> Gathered:
        items: list[Item] = []
        positions: dict[str, str] = {}
        for shard in shards:
            positions[str(shard.partition)] = position_of(shard)
            rows = self._rows(shard, page.after) if page.only is None else self._row(shard, page.only)
            items += itertools.islice(rows, page.limit)
        return Gathered(items, positions)

    def _row(self, shard: Shard, key: str) -> Iterator[Item]:
        raw = store_of(shard).get(self._table.prefix + key.encode())
        if raw is not None and (found := self._table.decode(raw)).row is not None:
            yield Item(key, found.version, found.row)

    def _rows(self, shard: Shard, after: str | None) -> Iterator[Item]:
        prefix, backwards = self._table.prefix, self._projection.newest_first
        cursor = prefix + after.encode() if after else None
        while rows := store_of(shard).scan(prefix, cursor, SCAN_ROWS, backwards=backwards):
            for key, raw in rows:
                found: Projected[Any] = self._table.decode(raw)
                if found.row is not None:
                    yield Item(key[len(prefix) :].decode(), found.version, found.row)
            cursor = rows[-1][0]
