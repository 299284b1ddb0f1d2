"""What people and programs put into commands, bounded before anything else happens to it.

Bounds of commands are checked as they are decoded. Events are not bounded here: what was accepted once stays readable.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec

ID_CHARS_MAX = 128
WORD_CHARS_MAX = 256

NO_CONTROLS = r"^(?![\s\S]*[\x00-\x1f\x7f-\x9f])"
"""No control characters, line breaks included."""
_NO_CONTROLS = re.compile(NO_CONTROLS)


def told(**schema: Any) -> msgspec.Meta:
    """What others are told of a field, in the words of JSON Schema, where it is checked elsewhere: by a decision."""
    return msgspec.Meta(extra_json_schema=schema)


def is_id(text: str) -> bool:
    """Whether a text may be an aggregate's id."""
    return 1 <= len(text) <= ID_CHARS_MAX and _NO_CONTROLS.match(text) is not None


Id = Annotated[str, msgspec.Meta(min_length=1, max_length=ID_CHARS_MAX, pattern=NO_CONTROLS)]
"""The id of an aggregate, as a command names it."""
Word = Annotated[str, msgspec.Meta(max_length=WORD_CHARS_MAX, pattern=NO_CONTROLS)]
"""A name, an address, a reason: one line of text."""
