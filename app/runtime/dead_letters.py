"""Dead letters: records that an agent could not handle, whole, and what a person wants to be done with them.

In `<agent>.deadletters` a letter is the record as it was, with ten headers behind its own: why it lies there, where it
came from, and its place. A key's records that must wait for one another form a **sequence**, numbered from 1; a letter
that lies alone has the number 0. One that was tried again and failed is written again, under the same number, with the
next attempt. A **settlement** has no value and names the letter that is done with.

In `fleet.redrive` a letter with an **instruction** goes back to the shard that it came from: see `Kind`.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from app.runtime.ports import Header, Record

UNDECODABLE, RAISED, PARKED = "undecodable", "raised", "parked"
"""Causes: it is no message; the handler raised; an earlier record of its key lies in the dead letters."""

REDRIVEN, DISCARDED = "redriven", "discarded"
"""How letters are settled; or with `PARKED`: one that lay alone has joined its key's sequence."""

CAUSE_BYTES_MAX = 1_000
ALONE = 0

_NAMES = (
    "cause",
    "cause-detail",
    "agent",
    "source-topic",
    "source-partition",
    "source-offset",
    "source-timestamp-ms",
    "sequence",
    "number",
    "attempt",
)
_SETTLES, _HOW, _INSTRUCTION = "settles", "how", "instruction"


class Letter(NamedTuple):
    """What is known of a dead letter besides the record itself.

    `sequence` is named after the source topic and offset of its first record. Within one shard, sequence and number
    stand for the same letter for ever.
    """

    cause: str
    detail: str
    agent: str
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    sequence: str
    number: int = ALONE
    attempt: int = 1

    @property
    def id(self) -> str:
        """The letter's name within its shard."""
        return f"{self.sequence}#{self.number}"

    def headers(self) -> list[Header]:
        """The headers that a letter has behind the record's own."""
        return [
            (name, str(value).encode()[:CAUSE_BYTES_MAX] if name == "cause-detail" else str(value).encode())
            for name, value in zip(_NAMES, self, strict=True)
        ]


class Original(NamedTuple):
    """A record as it lay in its source, taken from a letter."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: Sequence[Header]


def read_letter(record: Record) -> tuple[Letter, Original] | None:
    """The letter in a record of a dead-letter topic, or `None` where it is none of this form."""
    return _read(record, record.headers)


def _read(record: Record, headers: Sequence[Header]) -> tuple[Letter, Original] | None:
    own = headers[-len(_NAMES) :]
    if tuple(name for name, _ in own) != _NAMES:
        return None
    told = {name: _text(value) for name, value in own}
    try:
        letter = Letter(
            told["cause"],
            told["cause-detail"],
            told["agent"],
            told["source-topic"],
            int(told["source-partition"]),
            int(told["source-offset"]),
            int(told["source-timestamp-ms"]),
            told["sequence"],
            int(told["number"]),
            int(told["attempt"]),
        )
    except ValueError:
        return None
    rest = tuple(headers[: -len(_NAMES)])
    source = letter.topic, letter.partition, letter.offset
    return letter, Original(*source, record.key, record.value, letter.timestamp_ms, rest)


def _text(value: bytes | None) -> str:
    """What a header says, whoever wrote it: some brokers' clients write none."""
    return bytes(value or b"").decode(errors="replace")


def settlement(letter: Letter, how: str) -> list[Header]:
    """The headers of a record that settles a letter: its key is the letter's, and it has no value."""
    return [("agent", letter.agent.encode()), (_HOW, how.encode()), (_SETTLES, letter.id.encode())]


def read_settlement(record: Record) -> tuple[str, str] | None:
    """Which letter a record of a dead-letter topic settles, and how; `None` where it settles none."""
    if record.value is not None or not record.headers or record.headers[-1][0] != _SETTLES:
        return None
    told = {name: _text(value) for name, value in record.headers}
    return told[_SETTLES], told.get(_HOW, "")


class Kind(StrEnum):
    """What a shard is to do with a record that it finds in `fleet.redrive`.

    FOLD: fold the letter, if it is its turn. DISCARD: settle it without folding, if it is its turn. FILL: fold a record
    that lies in no dead letters, but is missing in the shard's source.
    """

    FOLD = "fold"
    DISCARD = "discard"
    FILL = "fill"


class Instruction(NamedTuple):
    """One record of `fleet.redrive`."""

    kind: Kind
    letter: Letter
    record: Original


def instruction(kind: Kind, letter: Letter, original: Sequence[Header] = ()) -> list[Header]:
    """The headers of a record for `fleet.redrive`; `original` are those that the record has of its own."""
    return [*original, *letter.headers(), (_INSTRUCTION, kind.encode())]


def read_instruction(record: Record) -> Instruction | None:
    """The instruction in a record of `fleet.redrive`. What is none concerns nobody."""
    if not record.headers or record.headers[-1][0] != _INSTRUCTION:
        return None
    told = _text(record.headers[-1][1])
    found = _read(record, record.headers[:-1])
    return None if found is None or told not in tuple(Kind) else Instruction(Kind(told), *found)
