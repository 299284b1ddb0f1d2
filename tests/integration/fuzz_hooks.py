"""What schemathesis is told besides the document: loaded by it as SCHEMATHESIS_HOOKS."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import schemathesis

KEY = "Idempotency-Key"
VALID_KEY = re.compile(r"[!-~]{1,128}")
NOT_IN_THE_DOCUMENT = ("command_id_reused", "history_too_long")
"""Refusals that no schema can foretell, by the last word of their type."""
NOR_THIS = ("give one of", "Expected `int`, got `float`")
"""And these, by their words: parameters that exclude each other; 2.0, which JSON Schema calls an integer."""


@schemathesis.hook
def before_call(ctx: Any, case: Any, kwargs: Any) -> None:
    """Ids of commands are unique in the whole fleet: one id for two streams would be the client's mistake."""
    told = (case.headers or {}).get(KEY)
    if isinstance(told, str) and VALID_KEY.fullmatch(told):
        of = json.dumps([case.path, case.body], default=repr, sort_keys=True)
        case.headers[KEY] = f"{told[:80]}:{hashlib.sha256(of.encode(errors='replace')).hexdigest()[:16]}"


@schemathesis.check
def valid_requests_are_taken(ctx: Any, response: Any, case: Any) -> None:
    """What is sent as the document says is not called invalid."""
    positive = case.meta is not None and case.meta.generation.mode is schemathesis.GenerationMode.POSITIVE
    if positive and response.status_code in (413, 422):
        problem = response.json()
        foretold = problem["type"].rpartition(":")[2] not in NOT_IN_THE_DOCUMENT
        if foretold and not any(words in problem["detail"] for words in NOR_THIS):
            raise AssertionError(f"valid, but refused: {problem}")


@schemathesis.check
def whoever_must_wait_is_told_how_long(ctx: Any, response: Any, case: Any) -> None:
    """503 is the only error of ours, and says when to try again."""
    if response.status_code >= 500 and (response.status_code != 503 or "retry-after" not in response.headers):
        raise AssertionError(f"{response.status_code}: {response.text[:500]}")
