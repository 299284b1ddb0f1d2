"""What is refused of a body before its shape is looked at: what two readers of JSON would read as two things."""

from __future__ import annotations

import json
import re
from typing import Any

from app.views.problems import Problem

DEPTH_MAX = 16
_TEXTS = re.compile(r'"(?:[^"\\]|\\.)*"')
_NOT_BRACKETS = re.compile(r"[^][{}]")


def check_json(raw: bytes) -> None:
    """422 for what is no UTF-8 or no JSON, is nested too deeply, or gives a key twice."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise _invalid(f"the body is no UTF-8: {error.reason} at byte {error.start}") from error
    if (depth := _depth(text)) > DEPTH_MAX:
        raise _invalid(f"the body is nested {depth} deep, {DEPTH_MAX} is the most")
    try:
        json.loads(text, object_pairs_hook=_once_each, parse_constant=_no_constant, parse_int=str, parse_float=str)
    except json.JSONDecodeError as error:
        raise _invalid(f"the body is no JSON: {error}") from error


def _depth(text: str) -> int:
    depth = deepest = 0
    for bracket in _NOT_BRACKETS.sub("", _TEXTS.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _once_each(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise _invalid(f"the key {key[:64]!r} stands in one object twice")
        seen.add(key)


def _no_constant(name: str) -> None:
    raise _invalid(f"{name} is no JSON")


def _invalid(detail: str) -> Problem:
    return Problem(422, "invalid_command", detail)
