"""What is served, in one place for the router and for the document that describes it: see `serve`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from app.views.problems import Handler

JSON = "application/json"
QUERY_PROBLEMS = (422, 503)
"""Any query may have wrong parameters, or come while its rows move to another worker."""


@dataclass(frozen=True)
class Answer:
    """One answer that is no problem. `body` is its type, or a JSON Schema where there is none."""

    about: str
    body: Any = None
    headers: Sequence[str] = ()
    media: str = JSON


@dataclass(frozen=True)
class Operation:
    """One thing that clients may ask for.

    `query` is the model of its parameters, without those that are named in `without`; `body` the type of what is sent.
    `headers` are those of the request that make a difference; `problems` are the statuses of RFC 9457 answers.
    """

    method: str
    path: str
    summary: str
    answers: Mapping[int, Answer]
    tag: str = "queries"
    query: type[BaseModel] | None = None
    without: Sequence[str] = ()
    headers: Sequence[str] = ()
    body: Any = None
    problems: Sequence[int] = QUERY_PROBLEMS


@dataclass
class Served:
    """All operations of a web application, and the routes on which they are served."""

    operations: list[Operation] = field(default_factory=list)
    routes: set[tuple[str, str]] = field(default_factory=set)


SERVED = web.AppKey("served", Served)


def serve(
    web_app: web.Application, operation: Operation, handler: Handler, each: Sequence[Operation] | None = None
) -> None:
    """Add a route that `GET /openapi.json` describes; a route that was added otherwise fails a test.

    `each` are the operations that one route with a name in its path stands for, such as one for each command.
    """
    served = web_app.get(SERVED)
    if served is None:
        served = web_app[SERVED] = Served()
    served.operations += [operation] if each is None else each
    served.routes.add((operation.method, operation.path))
    if operation.method == "GET":
        web_app.router.add_get(operation.path, handler)
    else:
        web_app.router.add_route(operation.method, operation.path, handler)
