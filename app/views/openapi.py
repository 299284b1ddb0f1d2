"""`GET /openapi.json`: the whole HTTP API as OpenAPI 3.1, made of the operations as they are served."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import msgspec
from aiohttp import web

from app.runtime.codec import COMMAND_ID_CHARS_MAX
from app.runtime.schemas import DIALECT, NO_CONTROLS_TOLD, Schema, schemas_of
from app.views.operations import JSON, SERVED, Answer, Operation, Served, serve
from app.views.parameters import ID_CHARS_MAX, INTERNAL
from app.views.problems import PROBLEM_JSON, answer

PROBLEMS = {
    404: ("NotFound", "There is no such thing, or not yet."),
    409: ("Conflict", "A business rule, in `reason`, or another version than the expected one, refuses the command."),
    413: ("TooLarge", "The body is too large."),
    422: ("Invalid", "The parameters or the body are not as described: `detail` says where."),
    503: ("NotReady", "What is asked for is moving between workers; nothing was done. Try again after a moment."),
}
UNREADABLE = {
    "Unreadable": {
        "description": "It is no HTTP that can be read, or its first line or a header is longer than 8,190 bytes.",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
}
TEXT: Schema = {"type": "string"}
REQUEST_HEADERS: Mapping[str, tuple[str, Schema]] = {
    "Idempotency-Key": (
        "The command's id: a repetition gets the first answer and changes nothing.",
        {**TEXT, "minLength": 1, "maxLength": COMMAND_ID_CHARS_MAX, "pattern": "^[!-~]+$"},
    ),
    "If-None-Match": ("An ETag: 304 is answered where it is still the row's.", TEXT),
}
ANSWER_HEADERS: Mapping[str, tuple[str, Schema]] = {
    "ETag": ("The version, in quotation marks.", TEXT),
    "Location": ("Where the command's outcome can be looked up.", TEXT),
    "Retry-After": ("Seconds to wait.", {"type": "integer"}),
    "Eventfleet-Position": ("How far the answer reflects its source: topic/partition@offset, …", TEXT),
}
PARAMETER = re.compile(r"\{(\w+)\}")


class ProblemAnswer(msgspec.Struct):
    """RFC 9457. `type` ends in a word for programs; `title` says it again, `detail` is for people."""

    type: str
    title: str
    status: int
    detail: str


class OpenApiViews:
    """The document's own route."""

    def add_to(self, web_app: web.Application) -> None:
        """Add the route. What is served later is described as well."""
        says = {200: Answer("This document.", {"type": "object", "required": ["openapi", "paths"]})}
        told = Operation("GET", "/openapi.json", "This document", says, tag="worker", problems=())
        serve(web_app, told, self.document)

    async def document(self, request: web.Request) -> web.Response:
        """The document."""
        return answer(openapi(request.app[SERVED]))


def openapi(served: Served) -> dict[str, Any]:
    """The document of all operations."""
    operations = served.operations
    asked, asked_components = _described(_kinds(one.body for one in operations), asked=True)
    told, told_components = _described(_kinds(a.body for one in operations for a in one.answers.values()), asked=False)
    paths: dict[str, dict[str, Any]] = {}
    for one in operations:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, asked, told)
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": DIALECT,
        "info": {
            "title": "Eventfleet",
            "version": version("eventfleet"),
            "description": "Commands wait for their outcome; queries are answered by any worker.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": dict(sorted((asked_components | told_components).items())),
            "responses": {name: _problem(status, about) for status, (name, about) in PROBLEMS.items()} | UNREADABLE,
            "headers": {name: {"description": told, "schema": s} for name, (told, s) in ANSWER_HEADERS.items()},
        },
    }


def _kinds(bodies: Iterable[Any]) -> list[Any]:
    found: list[Any] = [ProblemAnswer]
    for body in bodies:
        if body is not None and not isinstance(body, dict) and body not in found:
            found.append(body)
    return found


def _described(kinds: Sequence[Any], *, asked: bool) -> tuple[list[tuple[Any, Schema]], dict[str, Schema]]:
    """Each type with its schema. What clients send and what they are told may differ: decimals do."""
    suffix = "Input" if asked else ""
    schemas, components = schemas_of(kinds, "#/components/schemas/{name}" + suffix, asked=asked)
    return list(zip(kinds, schemas, strict=True)), {f"{name}{suffix}": schema for name, schema in components.items()}


def _operation(one: Operation, asked: list[tuple[Any, Schema]], told: list[tuple[Any, Schema]]) -> dict[str, Any]:
    named = re.sub(r"\W+", "_", f"{one.method.lower()}{one.path}").strip("_")
    found: dict[str, Any] = {
        "operationId": named,
        "summary": one.summary,
        "tags": [one.tag],
        "parameters": [*_in_path(one.path), *_in_query(one), *_in_headers(one.headers)],
        "responses": {str(status): _answer(says, told) for status, says in one.answers.items()}
        | {"400": {"$ref": "#/components/responses/Unreadable"}}
        | {str(status): {"$ref": f"#/components/responses/{PROBLEMS[status][0]}"} for status in sorted(one.problems)},
    }
    if one.body is not None:
        found["requestBody"] = {"required": True, "content": {JSON: {"schema": _schema(one.body, asked)}}}
    return found


def _schema(body: Any, schemas: list[tuple[Any, Schema]]) -> Schema:
    return body if isinstance(body, dict) else next(schema for kind, schema in schemas if kind == body)


def _answer(says: Answer, told: list[tuple[Any, Schema]]) -> dict[str, Any]:
    found: dict[str, Any] = {"description": says.about}
    if says.headers:
        found["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in says.headers}
    if says.body is not None:
        found["content"] = {says.media: {"schema": _schema(says.body, told)}}
    return found


def _problem(status: int, about: str) -> dict[str, Any]:
    content = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/ProblemAnswer"}}}
    if status != 503:
        return {"description": about, "content": content}
    return {
        "description": about,
        "content": content,
        "headers": {"Retry-After": {"required": True, "schema": {"type": "integer"}}},
    }


def _in_path(path: str) -> list[dict[str, Any]]:
    schema = {**TEXT, "minLength": 1, "maxLength": ID_CHARS_MAX, "pattern": NO_CONTROLS_TOLD}
    return [{"name": name, "in": "path", "required": True, "schema": schema} for name in PARAMETER.findall(path)]


def _in_query(one: Operation) -> list[dict[str, Any]]:
    if one.query is None:
        return []
    schema = one.query.model_json_schema()
    return [
        {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": _without_null(told)}
        for name, told in schema["properties"].items()
        if name not in one.without and not told.get(INTERNAL)
    ]


def _without_null(schema: Schema) -> Schema:
    """A parameter is there or not; it is never null."""
    options = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    if len(options) == 1:
        schema = {**schema, **options[0]}
    return {name: value for name, value in schema.items() if name not in ("anyOf", "title") and value is not None}


def _in_headers(names: Iterable[str]) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "header", "required": False, "description": about, "schema": schema}
        for name in names
        for about, schema in [REQUEST_HEADERS[name]]
    ]
