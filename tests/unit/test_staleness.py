"""A query whose rows are let go of in the middle of it is asked again, and else answered 503."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from app.kernel.errors import StoreClosed
from app.views.problems import Problem
from app.views.staleness import stale_queries, staleness


async def test_a_store_that_is_closed_while_it_is_read_is_one_that_moves() -> None:
    asked: list[bool] = []

    async def handler(_: web.Request) -> web.StreamResponse:
        asked.append(staleness().allowed)
        if not staleness().allowed:
            raise StoreClosed("it is closed: open it again")
        return web.Response(text="a standby's")

    answer = await stale_queries(make_mocked_request("GET", "/orders/o-1"), handler)
    assert (answer.status, asked) == (200, [False, True])


async def test_where_no_standby_has_the_rows_it_may_be_tried_again() -> None:
    async def handler(_: web.Request) -> web.StreamResponse:
        raise StoreClosed("it is closed: open it again")

    with pytest.raises(Problem, match="rows are moving") as told:
        await stale_queries(make_mocked_request("GET", "/orders/o-1"), handler)
    assert (told.value.status, "Retry-After" in told.value.response().headers) == (503, True)
