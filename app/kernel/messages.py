"""Commands and events: frozen values with an explicit name on the wire.

The first field of every message is the id of the aggregate it belongs to: the record's key, the stream's name.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, TypeVar, get_args, get_origin

import msgspec

WIRE_NAME = re.compile(r"[a-z][a-z0-9-]*(\.[a-z][a-z0-9-]*)+\.v[1-9][0-9]*")


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    """What commands and events share. `wire_name` is written into records for ever, never a module path."""

    wire_name: ClassVar[str]


class Command(Message, frozen=True):
    """A wish, named in the imperative: an aggregate may refuse it."""


class Event(Message, frozen=True):
    """A fact, named in the past tense: it is never changed and carries all that its readers need."""


class Rejected(msgspec.Struct, frozen=True):
    """A business refusal, as a value. `reason` is for programs, `message` for people."""

    reason: str
    message: str


M = TypeVar("M", bound=Message)


def stream_id_of(message: Message) -> str:
    """The id of the aggregate that a message belongs to: its first field."""
    stream_id: str = getattr(message, message.__struct_fields__[0])
    return stream_id


def first_word(wire_name: str) -> str:
    """The first word of a wire name, which tells the aggregate: `order` of `order.created.v1`."""
    return wire_name.partition(".")[0]


def field_names(kind: type[Message]) -> tuple[str, ...]:
    """The names of a message's fields, in order."""
    names: tuple[str, ...] = kind.__struct_fields__
    return names


def check_message_type(kind: type[Any]) -> None:
    """Raise `TypeError`, saying what to change, where a message type does not keep the rules above."""
    wire_name = getattr(kind, "wire_name", None)
    if not isinstance(wire_name, str):
        raise TypeError(f"{kind.__name__} needs a wire_name, such as 'order.created.v1'")
    check_wire_name(wire_name)
    fields = msgspec.structs.fields(kind)
    if not fields or not _is_text(fields[0].type):
        raise TypeError(f"{kind.__name__}: the first field must be the aggregate's id, a str")


def check_wire_name(name: str) -> None:
    """Raise `TypeError` where a name does not say what it names and in which version."""
    if WIRE_NAME.fullmatch(name) is None:
        raise TypeError(f"{name!r} is no wire name: give it a noun, a verb and a version, such as 'order.created.v1'")


def _is_text(annotation: Any) -> bool:
    return annotation is str or (get_origin(annotation) is Annotated and get_args(annotation)[0] is str)
