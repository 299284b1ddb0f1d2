"""Query parameters: what is not as described is refused, and named."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request

from app.views.parameters import HistoryPage, Page, Parameters, Row, WindowQuery, parse
from app.views.problems import Problem


@pytest.mark.parametrize(
    ("kind", "query"),
    [
        (Row, "as_of=2026-01-01T00:00:00Z"),
        (Row, "as_of=2026-01-01T00:00:00.123456%2B05:30"),
        (WindowQuery, "at=2026-01-01T00:00:00Z&key=c"),
        (HistoryPage, "after=9007199254740991"),
        (Page, "after=x&limit=1000"),
    ],
)
def test_parameters_as_described_are_taken(kind: type[Parameters], query: str) -> None:
    parse(make_mocked_request("GET", f"/x?{query}"), kind)


@pytest.mark.parametrize(
    ("kind", "query", "told"),
    [
        (Row, "as_of=0.5", "give a time with its offset"),
        (Row, "as_of=1700000000", "give a time with its offset"),
        (Row, "as_of=2026-01-01", "give a time with its offset"),
        (Row, "as_of=2026-01-01T00:00:00", "give a time with its offset"),
        (Row, "as_of=2026-13-01T00:00:00Z", "as_of"),
        (Row, "version=1&min_version=1", "give one of"),
        (Row, "version=9007199254740992", "version"),
        (Row, "versoin=1", "versoin"),
        (WindowQuery, "at=1", "give a time with its offset"),
        (HistoryPage, f"after={10**30}", "after"),
        (HistoryPage, f"after={'9' * 5000}", "after"),
        (HistoryPage, "limit=1&limit=2", "limit: given more than once"),
        (Page, "partitions=٣", "partitions"),
        (Page, f"after={'x' * 1025}", "after"),
    ],
)
def test_other_parameters_are_named(kind: type[Parameters], query: str, told: str) -> None:
    with pytest.raises(Problem) as refused:
        parse(make_mocked_request("GET", f"/x?{query}"), kind)
    assert refused.value.status == 422
    assert told in refused.value.detail
