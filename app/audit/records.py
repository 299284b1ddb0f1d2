"""Raw records as they stand in the topics, and what their bytes say: generic JSON and MessagePack, names of topics."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import msgspec


class Kind(Enum):
    """What a topic holds."""

    COMMAND = auto()
    EVENT = auto()
    OUTCOME = auto()
    ALERT = auto()
    ROW = auto()
    ENGINE_ROW = auto()
    DEAD_LETTER = auto()
    FINAL = auto()
    LATE = auto()


class Place(NamedTuple):
    """What a topic is: `owner` is a category (`orders`), an agent (`projecting-orders`) or a window."""

    kind: Kind
    owner: str


_SUFFIXES = {
    ".commands": Kind.COMMAND,
    ".events": Kind.EVENT,
    ".outcomes": Kind.OUTCOME,
    ".changelog": Kind.ROW,
    ".deadletters": Kind.DEAD_LETTER,
    ".finals": Kind.FINAL,
    ".late": Kind.LATE,
}
_ALERTS = "fleet.alerts"


_GENERATION = re.compile(r"projecting-([a-z0-9-]+?)(?:\.g([0-9]+))?")
FIRST = 1


def place_of(topic: str, prefix: str = "", live: Mapping[str, int] = MappingProxyType({})) -> Place | None:
    """What a topic of the fleet with this prefix is; `None` where it is nothing that is audited.

    `live` says which generation of a read model is read, where it is not the first: others are not audited.
    """
    if not topic.startswith(prefix):
        return None
    name = topic[len(prefix) :]
    if name == _ALERTS:
        return Place(Kind.ALERT, "fleet")
    owner, dot, suffix = name.rpartition(".")
    kind = _SUFFIXES.get(dot + suffix)
    if (generation := _GENERATION.fullmatch(owner)) is not None:
        name, number = generation[1], int(generation[2] or FIRST)
        if number != live.get(name, FIRST):
            return None
        owner = f"projecting-{name}"
    # A further dot would be another fleet's prefix.
    return None if kind is None or not owner or "." in owner else Place(kind, owner)


class Message(msgspec.Struct):
    """A CloudEvent, as far as an auditor needs it: everything in it is what JSON itself says."""

    id: str
    type: str
    source: str
    subject: str
    time: str
    data: dict[str, Any]
    version: int | None = None
    correlationid: str | None = None
    causationid: str | None = None

    @property
    def fact(self) -> str:
        """The type without its version: `order.created` of `order.created.v1`."""
        return self.type.rpartition(".")[0]


@dataclass(slots=True)
class Seen:
    """One record. `message` is its CloudEvent, `row` what a changelog's record says, where it says anything.

    `now` is when the auditor read it, in seconds of a clock that only grows.
    """

    place: Place
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes
    value: bytes | None
    headers: Mapping[str, bytes] = field(default_factory=dict)
    now: float = 0.0
    message: Message | None = None
    table: str = ""
    row_key: bytes = b""
    row: Any = None

    @property
    def at(self) -> str:
        """Where it stands, for people."""
        return f"{self.topic} {self.partition}:{self.offset}"


_decode_message = msgspec.json.Decoder(Message).decode
_decode_row = msgspec.msgpack.Decoder().decode
_ENGINE = b"\x00"


class RawRecord(Protocol):
    """A record as consumers give it; its timestamp is in milliseconds."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


def seen(place: Place, raw: RawRecord, now: float = 0.0) -> Seen:
    """The record with what its bytes say. Bytes that say nothing leave `message` or `row` empty."""
    value = raw.value
    made = Seen(
        place, raw.topic, raw.partition, raw.offset, raw.timestamp, raw.key or b"", value, dict(raw.headers), now
    )
    if place.kind is Kind.ROW:
        _read_row(made)
    else:
        made.message = _message(value)
        if place.kind is Kind.LATE and made.message is None:
            made.row = _json(value)
    return made


def _message(value: bytes | None) -> Message | None:
    try:
        return _decode_message(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _json(value: bytes | None) -> Any:
    try:
        return msgspec.json.decode(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _read_row(made: Seen) -> None:
    if made.key.startswith(_ENGINE):
        made.place = Place(Kind.ENGINE_ROW, made.place.owner)
        made.table, made.row_key = "", made.key[1:]
    else:
        table, _, made.row_key = made.key.partition(b"\x00")
        made.table = table.decode(errors="replace")
    try:
        made.row = None if made.value is None else _decode_row(made.value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        made.row = msgspec.UNSET
