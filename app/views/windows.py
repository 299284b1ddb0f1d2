"""Windows over HTTP: `GET /windows` and `GET /windows/{name}`, gathered from every worker and merged.

Of a sliding window: its figure at this moment, or at another. Of the others: what is open and what was final lately.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

import msgspec
from aiohttp import web

from app.kernel import Sliding, Window
from app.kernel.window import ms_of, time_of
from app.runtime.shard import Shard
from app.views.operations import QUERY_PROBLEMS, Answer, Operation, serve
from app.views.parameters import WindowQuery, parse
from app.views.places import Places, position_of, store_of
from app.views.problems import Problem, answer, not_ready
from app.views.served import ServedWindow
from tables.window_queries import final_figures, last, open_figures, united, watermark
from tables.windows import Figure, told, told_type

R = TypeVar("R")


class WindowDescribed(msgspec.Struct):
    """What a window is. `lengths_s` are the size, hop, gap or resolution of its kind; times in seconds."""

    name: str
    kind: str
    lengths_s: dict[str, float]
    grace_s: float
    idle_s: float
    keyed: bool
    events: list[str]


class WindowsAnswer(msgspec.Struct):
    """All windows."""

    items: list[WindowDescribed]


class SlidingAnswer(msgspec.Struct, Generic[R]):
    """A sliding window's figure, and how far time has come in each partition."""

    window: WindowDescribed
    figure: R
    watermarks: dict[str, datetime | None]
    positions: dict[str, str]


class WindowAnswer(msgspec.Struct, Generic[R]):
    """What is open, that which closes first first; final figures, the newest first; and how far time has come."""

    window: WindowDescribed
    open: list[R]
    finals: list[R]
    watermarks: dict[str, datetime | None]
    positions: dict[str, str]


class Seen(msgspec.Struct, Generic[R]):
    """What some partitions know: figures that are open (of a sliding window its only one), final ones, watermarks in
    ms since 1970, and positions in the sources, by partition."""

    open: list[Figure[R]] = []
    finals: list[Figure[R]] = []
    watermarks: dict[str, int] = {}
    positions: dict[str, str] = {}


class WindowViews:
    """The routes of all windows. Used in the web thread; reads the stores, never a round's overlay."""

    def __init__(self, places: Places, served: Sequence[ServedWindow]) -> None:
        self._places = places
        self._windows = {one.window.name: one for one in served}
        self._told = {one.window.name: told_type(one.window) for one in served}

    def add_to(self, web_app: web.Application) -> None:
        """Add the routes."""
        says = {200: Answer("What they are called, and how they count.", WindowsAnswer)}
        serve(web_app, Operation("GET", "/windows", "All windows", says, problems=()), self.all)
        one = Operation("GET", "/windows/{name}", "One window", {})
        serve(web_app, one, self.one, [self._operation(served.window) for served in self._windows.values()])

    def _operation(self, window: Window[Any]) -> Operation:
        kind: Any = SlidingAnswer if (slides := isinstance(window.kind, Sliding)) else WindowAnswer
        summary = f"The figure of {window.name}" if slides else f"Open and final figures of {window.name}"
        says = {200: Answer("The figures, over all partitions.", kind[self._told[window.name]])}
        without = [*([] if slides else ["at"]), *([] if window.keyed else ["key"])]
        path = f"/windows/{window.name}"
        return Operation("GET", path, summary, says, query=WindowQuery, without=without, problems=QUERY_PROBLEMS)

    async def all(self, _: web.Request) -> web.Response:
        """Which windows there are."""
        return answer(WindowsAnswer([described(one.window) for one in self._windows.values()]))

    async def one(self, request: web.Request) -> web.Response:
        """One window."""
        served = self._windows.get(request.match_info["name"])
        if served is None:
            known = ", ".join(self._windows)
            raise Problem(404, "unknown_window", f"There is no window of that name; there are {known}")
        query, window = parse(request, WindowQuery), served.window
        _check(query, window)
        at_ms = ms_of(query.at or datetime.now(UTC))
        everywhere = range(self._places.partitions)
        wanted = list(everywhere) if query.partitions is None else [int(n) for n in query.partitions.split(",")]
        if unknown := [number for number in wanted if number not in everywhere]:
            raise Problem(422, "invalid_parameters", f"There are no partitions {unknown}")
        seen = await self._seen(request, served, query, at_ms, wanted)
        return answer(seen if query.partitions is not None else self._answer(window, seen))

    async def now(self, request: web.Request, window: Window[R]) -> R:
        """The row of a sliding window at this moment, over all keys and partitions."""
        everywhere, at_ms = list(range(self._places.partitions)), ms_of(datetime.now(UTC))
        seen: Seen[R] = await self._seen(request, self._windows[window.name], WindowQuery(), at_ms, everywhere)
        return seen.open[0].row

    async def _seen(
        self, request: web.Request, served: ServedWindow, query: WindowQuery, at_ms: int, wanted: list[int]
    ) -> Seen[Any]:
        groups = self._by_place(request, served, wanted)
        parts = await asyncio.gather(*(self._part(request, served, query, at_ms, numbers) for numbers in groups))
        return _merged(served.window, parts, query.limit)

    def _by_place(self, request: web.Request, served: ServedWindow, wanted: list[int]) -> list[list[int]]:
        """The partitions in groups that one worker has each."""
        groups: dict[str, list[int]] = {}
        for number in wanted:
            here = self._places.here(served.windowing, number)
            url = "" if here is not None else self._places.owner(request, served.windowing, number).url
            groups.setdefault(url, []).append(number)
        return list(groups.values())

    async def _part(
        self, request: web.Request, served: ServedWindow, query: WindowQuery, at_ms: int, numbers: list[int]
    ) -> Seen[Any]:
        shards = [self._places.here(served.windowing, number) for number in numbers]
        if None not in shards:
            found = [_look(shard, served.window, query, at_ms) for shard in shards if shard is not None]
            return _merged(served.window, found, query.limit)
        asked = {"limit": str(query.limit), "partitions": ",".join(map(str, numbers))}
        asked |= {} if query.key is None else {"key": query.key}
        asked |= {"at": time_of(at_ms).isoformat()} if isinstance(served.window.kind, Sliding) else {}
        entry = self._places.owner(request, served.windowing, numbers[0])
        path = f"/windows/{served.window.name}?{urlencode(asked)}"
        status, body, _ = await self._places.ask(entry, "GET", path)
        if status != 200:
            raise not_ready(f"worker {entry.worker} cannot serve partitions {numbers} of {served.window.name} now")
        return _decode(served.window, body)

    def _answer(self, window: Window[Any], seen: Seen[Any]) -> WindowAnswer[Any] | SlidingAnswer[Any]:
        kind, about = self._told[window.name], described(window)
        watermarks = {number: time_of(at) if at else None for number, at in sorted(seen.watermarks.items())}
        open_ = [told(window, figure, kind) for figure in seen.open]
        if isinstance(window.kind, Sliding):
            return SlidingAnswer(about, open_[0], watermarks, seen.positions)
        finals = [told(window, figure, kind) for figure in seen.finals]
        return WindowAnswer(about, open_, finals, watermarks, seen.positions)


def described(window: Window[Any]) -> WindowDescribed:
    """What a window is, for people and programs."""
    return WindowDescribed(
        window.name,
        type(window.kind).__name__.lower(),
        {name: length.total_seconds() for name, length in vars(window.kind).items()},
        window.grace.total_seconds(),
        window.idle.total_seconds(),
        window.keyed,
        [kind.wire_name for kind in window.events],
    )


def _check(query: WindowQuery, window: Window[Any]) -> None:
    if query.key is not None and not window.keyed:
        raise Problem(422, "invalid_parameters", f"key: {window.name} has no keys, it counts over all")
    if query.at is not None and not isinstance(window.kind, Sliding):
        raise Problem(422, "invalid_parameters", f"at: {window.name} does not slide")


def _look(shard: Shard, window: Window[Any], query: WindowQuery, at_ms: int) -> Seen[Any]:
    position, store = position_of(shard), store_of(shard)
    sliding = isinstance(window.kind, Sliding)
    return Seen(
        [last(store, window, at_ms, query.key)] if sliding else open_figures(store, window, query.key, query.limit),
        [] if sliding else final_figures(store, window, query.key, query.limit),
        {str(shard.partition): watermark(store)},
        {str(shard.partition): position},
    )


def _merged(window: Window[Any], parts: Sequence[Seen[Any]], limit: int) -> Seen[Any]:
    finals = sorted((figure for part in parts for figure in part.finals), key=lambda one: (-one.end, one.key or ""))
    return Seen(
        united(window, [figure for part in parts for figure in part.open])[:limit],
        finals[:limit],
        {number: at for part in parts for number, at in part.watermarks.items()},
        {number: at for part in parts for number, at in part.positions.items()},
    )


def _decode(window: Window[R], body: bytes) -> Seen[R]:
    return msgspec.json.decode(body, type=Seen[window.row])  # type: ignore[name-defined]
