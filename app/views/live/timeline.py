"""`GET /{category}/{id}/timeline`: a stream's events in order, when and why each came, and how its chains stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

import msgspec
from aiohttp import web
from pydantic import Field
from yarl import URL

from app.runtime.codec import CloudEvent
from app.views.chains import ChainViews
from app.views.histories import HistoryViews
from app.views.live.html import Child, Html, html_answer, join, page, tag, wants_html
from app.views.live.live_page import head, masthead, timeline_url
from app.views.live.words import clock, headline, lasted, time_of
from app.views.operations import QUERY_PROBLEMS, Answer, Operation, serve
from app.views.parameters import Parameters, parse
from app.views.problems import Problem

EVENTS_MAX = 200


class TimelinePage(Parameters):
    """A stream's events with versions above `after`."""

    after: int = Field(default=0, ge=0)


class Standing(msgspec.Struct, frozen=True):
    """How one chain stands with the stream, as its view tells."""

    chain: str
    state: Any
    since: datetime
    finished: bool
    waiting_for: str | None = None
    timers: dict[str, datetime] = {}


class TimelineViews:
    """One category's timelines: made of its history and of the chains that begin with it. Used in the web thread."""

    def __init__(self, category: str, history: HistoryViews, chains: Mapping[str, ChainViews]) -> None:
        self._category = category
        self._history = history
        self._chains = dict(chains)

    def add_to(self, web_app: web.Application) -> None:
        """Add the route."""
        told = Operation(
            "GET",
            f"/{self._category}/{{id}}/timeline",
            f"One stream of {self._category}, for people: what came when and why",
            {200: Answer("A page.", {"type": "string"}, media="text/html")},
            tag="live",
            query=TimelinePage,
            problems=(404, *QUERY_PROBLEMS),
        )
        serve(web_app, told, self.get)

    async def get(self, request: web.Request) -> web.Response:
        """The page; browsers are told of problems by pages too."""
        try:
            after = parse(request, TimelinePage).after
            id_ = request.match_info["id"]
            events = await self._events(request, id_, after)
            standings = [s for name in self._chains if (s := await self._standing(request, id_, name)) is not None]
        except Problem as problem:
            if not wants_html(request):
                raise
            return problem_page(problem)
        return html_answer(timeline_page(self._category, id_, events, standings, after))

    async def _events(self, request: web.Request, id_: str, after: int) -> list[CloudEvent]:
        path = f"/{self._category}/{quote(id_, safe='')}/history?after={after}&limit={EVENTS_MAX}"
        body = _body(await self._history.history(_instead(request, path)))
        return msgspec.json.decode(body, type=_History).events

    async def _standing(self, request: web.Request, id_: str, name: str) -> Standing | None:
        path = f"/chains/{name}/{quote(id_, safe='')}"
        try:
            body = _body(await self._chains[name].instance(_instead(request, path)))
        except Problem as problem:
            if problem.status == 404:
                return None
            raise
        return msgspec.convert({**msgspec.json.decode(body), "chain": name}, Standing)


class _History(msgspec.Struct):
    events: list[CloudEvent]


def _instead(request: web.Request, path: str) -> web.Request:
    """The same request for another view, which may forward it to the worker that has the key."""
    return request.clone(rel_url=URL(path, encoded=True))


def _body(response: web.Response) -> bytes:
    """What a view answered, be it here or elsewhere."""
    body = response.body if isinstance(response.body, bytes) else b""
    if response.status == 200:
        return body
    try:
        detail = str(msgspec.json.decode(body).get("detail", response.reason))
    except (msgspec.DecodeError, AttributeError):
        detail = response.reason
    raise Problem(response.status, "not_found" if response.status == 404 else "not_ready", detail)


def problem_page(problem: Problem) -> web.Response:
    """A problem for people."""
    title = {404: "Nothing here", 503: "One moment, please"}.get(problem.status, "That did not work")
    body = tag("main", tag("h1", title), tag("p", problem.detail), tag("p", tag("a", "To the live page", href="/")))
    answer = html_answer(page(title, masthead(), body, head=head()), problem.status)
    if problem.retry_after_s:
        answer.headers["Retry-After"] = str(problem.retry_after_s)
    return answer


def timeline_page(
    category: str, id_: str, events: Sequence[CloudEvent], standings: Sequence[Standing], after: int = 0
) -> Html:
    """A stream's page."""
    before = [None, *(event.time for event in events)]
    told = [_event(event, earlier) for event, earlier in zip(events, before, strict=False)]
    last = events[-1].version if events else None
    more = len(events) == EVENTS_MAX and last is not None
    following = f"{timeline_url(category, id_)}?after={last}"
    return page(
        f"{id_}, {category}",
        masthead(tag("p", tag("a", "Live", href="/"), class_="status")),
        tag(
            "main",
            tag("p", category, class_="kicker"),
            tag("h1", id_, class_="stream"),
            _summary(events, after),
            [_chain(standing) for standing in standings],
            tag("ol", told, class_="timeline", start=after + 1),
            tag("p", tag("a", "Later events", href=following), class_="more") if more else None,
            _elsewhere(category, id_, events),
            class_="narrow",
        ),
        head=head(),
    )


def _summary(events: Sequence[CloudEvent], after: int) -> Html | None:
    if not events:
        return tag("p", "There are no later events.")
    count = f"{len(events)} events" if len(events) > 1 else "1 event"
    span = lasted(events[-1].time - events[0].time)
    began = time_of(events[0].time, f"{events[0].time:%d %B %Y}, {clock(events[0].time)} UTC")
    return tag("p", count if not after else f"{count} after version {after}", " in ", span, ", from ", began)


def _event(event: CloudEvent, earlier: datetime | None) -> Html:
    since = None if earlier is None else tag("span", f"+{lasted(event.time - earlier)}", class_="since")
    return tag(
        "li",
        tag("div", time_of(event.time, clock(event.time)), since, class_="when"),
        tag(
            "div",
            tag("h2", headline(event.type), tag("span", f"version {event.version}", class_="version")),
            _fields(msgspec.json.decode(event.data), event.subject),
            tag("p", "caused by ", tag("code", event.causationid), class_="cause") if event.causationid else None,
            class_="what",
        ),
        id=f"v{event.version}",
    )


def _fields(data: Any, subject: str) -> Html | None:
    if not isinstance(data, dict):
        return None
    fields = [(name, value) for name, value in data.items() if value not in (subject, None, "", [])]
    if not fields:
        return None
    return tag("dl", [join(tag("dt", _name(name)), tag("dd", _value(value))) for name, value in fields])


def _value(value: Any) -> Child:
    match value:
        case [dict(), *_]:
            names = list(value[0])
            return tag(
                "table",
                tag("thead", tag("tr", [tag("th", _name(name), scope="col") for name in names])),
                tag("tbody", [tag("tr", [tag("td", _value(row.get(name))) for name in names]) for row in value]),
            )
        case list():
            return ", ".join(str(one) for one in value)
        case dict():
            return "; ".join(f"{name}: {one}" for name, one in value.items())
        case bool():
            return "yes" if value else "no"
        case _:
            return str(value)


def _name(field: str) -> str:
    return field.replace("_", " ")


def _chain(standing: Standing) -> Html:
    waits = "finished" if standing.finished else f"waits for {standing.waiting_for or 'nothing'}"
    timers = [
        tag("li", _name(name), " at ", time_of(due, f"{clock(due)} UTC")) for name, due in standing.timers.items()
    ]
    return tag(
        "section",
        tag("h2", headline(standing.chain)),
        tag(
            "p", tag("span", waits, class_="badge"), " since ", time_of(standing.since, f"{clock(standing.since)} UTC")
        ),
        _fields(standing.state, ""),
        tag("ul", timers) if timers else None,
        class_="card chain",
        aria_label=f"Chain {standing.chain}",
    )


def _elsewhere(category: str, id_: str, events: Sequence[CloudEvent]) -> Html:
    path = f"/{category}/{quote(id_, safe='')}"
    correlation = events[0].correlationid if events else None
    trace = join(" Across aggregates: ", tag("code", f"fleet trace {correlation}")) if correlation else None
    return tag("p", tag("a", "Row", href=path), ", ", tag("a", "events", href=f"{path}/history"), " as JSON.", trace)
