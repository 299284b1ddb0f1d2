"""Bodies that two readers would read as two things are refused before anything looks at their shape."""

from __future__ import annotations

import pytest

from app.views.bodies import DEPTH_MAX, check_json
from app.views.problems import Problem

VALID = [
    b"{}",
    b'{"a": [1, 2.5, "x", null, true]}',
    b'{"a": "[[[[[[[[[[[[[[[[[[[[\\"{"}',
    b"[" * DEPTH_MAX + b"]" * DEPTH_MAX,
]


@pytest.mark.parametrize("raw", VALID)
def test_json_is_let_through(raw: bytes) -> None:
    check_json(raw)


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b'{"a": 1}{"b": 2}', "no JSON"),
        (b'{"a": "\xff"}', "no UTF-8: invalid start byte at byte 7"),
        (b'{"a": "\xed\xa0\x80"}', "no UTF-8"),
        (b'{"a": 1, "a": 2}', "'a' stands in one object twice"),
        (b'{"b": {"a": 1, "\\u0061": 1}}', "'a' stands in one object twice"),
        (b'{"a": NaN}', "NaN is no JSON"),
        (b'{"a": [-Infinity]}', "-Infinity is no JSON"),
        (b"[" * (DEPTH_MAX + 1) + b"]" * (DEPTH_MAX + 1), "nested 17 deep"),
        (b"[" * 100_000, "nested 100000 deep"),
        (b'{"a": "' + b"[" * 9 + b'" }' + b"{" * 100_000, "nested"),
    ],
)
def test_what_is_read_in_two_ways_is_refused(raw: bytes, told: str) -> None:
    with pytest.raises(Problem) as refused:
        check_json(raw)
    assert refused.value.status == 422
    assert told in refused.value.detail


def test_a_long_number_costs_nothing() -> None:
    check_json(b'{"a": ' + b"9" * 400_000 + b"}")
