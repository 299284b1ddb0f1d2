"""Errors on the wire: RFC 9457 `application/problem+json`."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from aiohttp import web

from app.kernel.errors import FleetError

log = logging.getLogger(__name__)

PROBLEM_JSON = "application/problem+json"
RETRY_AFTER_S = 1

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Problem(FleetError):
    """An answer that is not the wished one. `type_` ends in a word for programs, `detail` is for people.

    `retry_after_s`: in how many seconds it is worth another try; 0 where it is not.
    """

    def __init__(self, status: int, type_: str, detail: str, *, retry_after_s: int = 0, **extra: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.type_ = type_
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.extra = extra

    def response(self) -> web.Response:
        """The answer."""
        body = {"type": f"urn:eventfleet:problem:{self.type_}", "title": self.type_.replace("_", " "), **self.extra}
        headers = {"Retry-After": str(self.retry_after_s)} if self.retry_after_s else {}
        return answer(
            body | {"status": self.status, "detail": self.detail},
            status=self.status,
            headers=headers,
            content_type=PROBLEM_JSON,
        )


def not_ready(detail: str) -> Problem:
    """503: nothing was done, the client may try again in a moment."""
    return Problem(503, "not_ready", detail, retry_after_s=RETRY_AFTER_S)


def answer(
    body: Any, *, status: int = 200, headers: Mapping[str, str] | None = None, content_type: str = "application/json"
) -> web.Response:
    """A JSON answer: decimals as text, times in RFC 3339."""
    return web.Response(
        body=_encode(body), status=status, headers=dict(headers or {}), content_type=content_type, charset="utf-8"
    )


_encode = msgspec.json.Encoder(decimal_format="string").encode


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever is raised into a problem."""
    try:
        return await handler(request)
    except Problem as problem:
        return problem.response()
    except web.HTTPException as error:
        if error.status < 400:
            raise
        told = Problem(error.status, error.reason.lower().replace(" ", "_"), error.text or error.reason).response()
        if "Allow" in error.headers:
            told.headers["Allow"] = error.headers["Allow"]
        return told
    except Exception:
        log.exception("%s %s", request.method, request.path)
        return Problem(500, "internal_error", "The worker's log has the cause").response()
