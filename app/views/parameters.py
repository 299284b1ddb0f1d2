"""Query parameters and headers, checked."""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeVar

from aiohttp import web
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from app.kernel import words
from app.views.problems import Problem

P = TypeVar("P", bound=BaseModel)

LIMIT_MAX = 1_000
ID_CHARS_MAX = 256
"""No key has more characters; that of an aggregate has 128 at most."""
VERSION_MAX = (1 << 53) - 1
"""The largest whole number that every JSON reader can tell from its neighbours."""
RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
NO_CONTROLS = re.compile(words.NO_CONTROLS)
INTERNAL = "x-internal"
"""Marks what workers ask each other: it is no part of the described API."""
FOR_WORKERS: dict[str, Any] = {INTERNAL: True}


def _as_rfc3339(told: Any) -> Any:
    """Numbers are no times: nobody could tell seconds from milliseconds."""
    if isinstance(told, str) and RFC3339.fullmatch(told) is None:
        raise ValueError("give a time with its offset, such as 2026-01-31T23:59:59Z")
    return told


Moment = Annotated[AwareDatetime, BeforeValidator(_as_rfc3339)]
"""A time as others write it."""


class Parameters(BaseModel):
    """Refuses what it does not know: a misspelt parameter must not be ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Page(Parameters):
    """A page of rows in key order: those after the key `after`, `limit` at most.

    `partitions`, `only` (the key of a single row) and `generation` are for workers that ask each other.
    """

    after: str | None = Field(default=None, max_length=1_024)
    limit: int = Field(default=100, ge=1, le=LIMIT_MAX)
    partitions: str | None = Field(
        default=None, pattern=r"^[0-9]{1,4}(,[0-9]{1,4})*$", max_length=4_096, json_schema_extra=FOR_WORKERS
    )
    only: str | None = Field(default=None, max_length=1_024, json_schema_extra=FOR_WORKERS)
    generation: int | None = Field(default=None, ge=1, le=1_000_000, json_schema_extra=FOR_WORKERS)


class ListPage(Parameters):
    """A page of a list: what comes after `after`, which is the `next` of the page before."""

    after: str | None = Field(default=None, max_length=1_024, pattern=r"^-?[0-9]{1,19}~")
    limit: int = Field(default=100, ge=1, le=LIMIT_MAX)


class Differing(Parameters):
    """A page of one partition's rows in two generations of a read model; `after` is the `next` of the page before."""

    partition: int = Field(ge=0, le=9_999)
    after: str | None = Field(default=None, max_length=8_192, pattern=r"^([0-9a-f]{2})+$")
    limit: int = Field(default=500, ge=1, le=LIMIT_MAX)


class WaitingPage(Parameters):
    """A page of a chain's instances that wait, those that have waited longest first; with `stuck`, for too long.

    `partitions` is for workers that ask each other.
    """

    stuck: bool = False
    after: str | None = Field(default=None, max_length=1_024, pattern=r"^[0-9]{1,19}~")
    limit: int = Field(default=100, ge=1, le=LIMIT_MAX)
    partitions: str | None = Field(
        default=None, pattern=r"^[0-9]{1,4}(,[0-9]{1,4})*$", max_length=4_096, json_schema_extra=FOR_WORKERS
    )


class WindowQuery(Parameters):
    """A window's figures: of one `key`, `limit` at most; of a sliding one, `at` a time. `partitions` is for workers."""

    key: str | None = Field(default=None, max_length=ID_CHARS_MAX)
    at: Moment | None = None
    limit: int = Field(default=100, ge=1, le=LIMIT_MAX)
    partitions: str | None = Field(
        default=None, pattern=r"^[0-9]{1,4}(,[0-9]{1,4})*$", max_length=4_096, json_schema_extra=FOR_WORKERS
    )


class HistoryPage(Parameters):
    """A stream's events with versions above `after`."""

    after: int = Field(default=0, ge=0, le=VERSION_MAX)
    limit: int = Field(default=500, ge=1, le=LIMIT_MAX)


class Row(Parameters):
    """One row; with `min_version`, wait (for as long as a command waits) until it has come that far.

    With `version` or `as_of`, the row as it was then: after that event, or at that time.
    """

    min_version: int | None = Field(default=None, ge=1, le=VERSION_MAX)
    version: int | None = Field(default=None, ge=1, le=VERSION_MAX)
    as_of: Moment | None = None

    @model_validator(mode="after")
    def _one_moment(self) -> Row:
        if sum(moment is not None for moment in (self.min_version, self.version, self.as_of)) > 1:
            raise ValueError("give one of min_version, version and as_of")
        return self


class CommandLine(Parameters):
    """What may stand beside a command's body."""

    expected_version: int | None = Field(default=None, ge=0, le=VERSION_MAX)


class CommandLookup(Parameters):
    """`key` is the aggregate's id: with it one worker is asked, without it all. `here` is for workers."""

    key: str | None = Field(default=None, max_length=256)
    here: bool = Field(default=False, json_schema_extra=FOR_WORKERS)


def id_in(request: web.Request) -> str:
    """The id in the request's path, or 422 where nothing can have such an id."""
    id_ = request.match_info["id"]
    if len(id_) > ID_CHARS_MAX or NO_CONTROLS.match(id_) is None:
        raise Problem(422, "invalid_id", f"An id has {ID_CHARS_MAX} characters at most, and no control characters")
    return id_


def parse(request: web.Request, kind: type[P]) -> P:
    """The request's query as `kind`, or 422 that names each wrong parameter."""
    if repeated := sorted({name for name in request.query if len(request.query.getall(name)) > 1}):
        raise Problem(422, "invalid_parameters", f"{', '.join(repeated)[:128]}: given more than once")
    try:
        return kind.model_validate(dict(request.query))
    except ValidationError as error:
        raise Problem(422, "invalid_parameters", _told(error), errors=_errors(error)) from error


def _told(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())


def _errors(error: ValidationError) -> list[dict[str, Any]]:
    return [{"parameter": ".".join(map(str, e["loc"])), "message": e["msg"]} for e in error.errors()]
