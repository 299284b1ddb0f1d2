"""Queries while a bucket moves: what its owner cannot answer now, a standby answers, with rows a moment old.

It says so.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field

from aiohttp import web

from app.kernel.errors import StoreFailed
from app.views.problems import Handler, Problem, not_ready

STALE = "Eventfleet-Stale"
"""On a request between workers: a standby's rows will do. On an answer: they had to do, and are a moment old."""
FORWARDED = "Eventfleet-Forwarded"


@dataclass
class Staleness:
    """Of one request: whether rows of standbys may be used, whether they were, and which workers were asked in vain."""

    allowed: bool = False
    used: bool = False
    failed: set[str] = field(default_factory=set)


_staleness: ContextVar[Staleness | None] = ContextVar("staleness", default=None)


def staleness() -> Staleness:
    """The present request's; outside of a query, one that allows nothing."""
    return _staleness.get() or Staleness()


@web.middleware
async def stale_queries(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Try a query again with the rows of standbys, where it would be answered 503."""
    query = request.method == "GET"
    stale = Staleness(allowed=query and STALE in request.headers)
    _staleness.set(stale)  # a connection's requests share a context: each begins anew
    if not query:
        return await handler(request)
    try:
        answer = await _answered(handler, request)
        if answer.status != 503 or stale.allowed or FORWARDED in request.headers:
            return _marked(answer, stale)
    except Problem as problem:
        if problem.status != 503 or stale.allowed or FORWARDED in request.headers:
            raise
    stale.allowed = True
    return _marked(await _answered(handler, request), stale)


async def _answered(handler: Handler, request: web.Request) -> web.StreamResponse:
    """The answer. Rows that are let go of while they are read are on their way, like those that are gone already."""
    try:
        return await handler(request)
    except StoreFailed as error:
        raise not_ready(f"rows are moving: {error}") from error


def _marked(answer: web.StreamResponse, stale: Staleness) -> web.StreamResponse:
    if stale.used and not answer.prepared:
        answer.headers[STALE] = "standby"
    return answer
