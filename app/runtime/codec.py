"""The wire form of messages: CloudEvents 1.0, structured mode, JSON.

A record's value is `{"specversion": "1.0", "id", "type", "source", "subject", "time", "dataschema", "data"}` with the
extensions `version` (of an event: its place in the stream; of a command: the version its sender expects),
`correlationid` and `causationid`. The record's key is the subject: the aggregate's id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

import msgspec

from app.kernel import Aggregate, Envelope, Message, Outcome, Upcaster, stream_id_of
from app.kernel.errors import UndecodableMessage
from app.kernel.upcasting import Data, Upcast, upcasts

COMMAND_ID_CHARS_MAX = 128
ID_CHARS_MAX = 256
"""Ids of derived messages are made of the id of their cause and a number."""
NUMBER_MAX = (1 << 53) - 1
"""The largest whole number that every JSON reader can tell from its neighbours."""
YEARS = range(1970, 9999)
"""Times that can be reckoned with: a time-out may be added to them."""
NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises over bytes that are not the wished value: malformed, of another shape, too deep, no UTF-8."""

Version = Annotated[int, msgspec.Meta(ge=0, le=NUMBER_MAX)]
Cause = Annotated[str, msgspec.Meta(max_length=ID_CHARS_MAX)]


class CloudEvent(msgspec.Struct, omit_defaults=True):
    """One record's value. Attributes that are not ours are ignored."""

    id: str
    type: str
    source: str
    subject: str
    time: datetime
    data: msgspec.Raw
    version: Version | None = None
    correlationid: Cause | None = None
    causationid: Cause | None = None
    dataschema: str | None = None
    specversion: str = msgspec.field(default="")


ACCEPTED, REJECTED = "command.accepted.v1", "command.rejected.v1"


class Codec:
    """Encodes and decodes messages. What lies in the topics in an old version is decoded as the newest."""

    def __init__(
        self,
        kinds: Iterable[type[Message]],
        upcasters: Iterable[Upcaster] = (),
        *,
        id_chars_max: int = ID_CHARS_MAX,
    ) -> None:
        kinds = tuple(kinds)
        self._id_chars_max = id_chars_max
        self.upcast = upcasts(kinds, upcasters)
        """Old wire names, and the way from each to a type."""
        self._decode_data: dict[str, Callable[[msgspec.Raw], Message]] = {
            name: _upcasting(upcast) for name, upcast in self.upcast.items()
        } | {kind.wire_name: msgspec.json.Decoder(kind).decode for kind in kinds}
        self._decode_cloud_event = msgspec.json.Decoder(CloudEvent).decode
        self._encode = msgspec.json.Encoder(decimal_format="string").encode
        self._decode_outcome = msgspec.json.Decoder(Outcome).decode

    @classmethod
    def of_events(cls, *aggregates: Aggregate[Any, Any, Any]) -> Codec:
        """The codec of these aggregates' events, in every version that there has ever been."""
        return cls(
            [kind for aggregate in aggregates for kind in aggregate.events],
            [step for aggregate in aggregates for step in aggregate.upcasters],
        )

    @classmethod
    def of_commands(cls, *aggregates: Aggregate[Any, Any, Any]) -> Codec:
        """The codec of these aggregates' commands, in every version; their ids are bounded more tightly."""
        return cls(
            [kind for aggregate in aggregates for kind in aggregate.commands],
            [step for aggregate in aggregates for step in aggregate.upcasters],
            id_chars_max=COMMAND_ID_CHARS_MAX,
        )

    def encode(self, envelope: Envelope[Any], source: str) -> bytes:
        """The record's value."""
        name = type(envelope.message).wire_name
        return self._encode(
            CloudEvent(
                envelope.id,
                name,
                source,
                envelope.stream_id,
                envelope.time,
                msgspec.Raw(self._encode(envelope.message)),
                envelope.version,
                envelope.correlation_id,
                envelope.causation_id,
                f"urn:eventfleet:schema:{name}",
                "1.0",
            )
        )

    def decode(self, value: bytes | None) -> Envelope[Any]:
        """The envelope in a record's value, in the newest version; `UndecodableMessage` tells what is wrong with it."""
        if value is None:
            raise UndecodableMessage("the record has no value")
        try:
            wire = self._decode_cloud_event(value)
            decode_data = self._decode_data.get(wire.type)
            if decode_data is None:
                raise UndecodableMessage(f"the type {wire.type[:64]!r} is not in the catalogue")
            message = decode_data(wire.data)
        except NOT_JSON as error:
            raise UndecodableMessage(str(error)) from error
        if not wire.id or len(wire.id) > self._id_chars_max or not wire.id.isprintable():
            raise UndecodableMessage(f"the id must have 1 to {self._id_chars_max} characters, all of them printable")
        if wire.subject != stream_id_of(message):
            raise UndecodableMessage(f"the subject {wire.subject[:64]!r} is not the id in the data")
        return Envelope(
            wire.id, wire.subject, _in_utc(wire.time), message, wire.version, wire.correlationid, wire.causationid
        )

    def encode_outcome(self, outcome: Outcome, source: str) -> bytes:
        """The record's value for a command's outcome."""
        return self._encode(
            CloudEvent(
                f"{outcome.command_id}:outcome",
                ACCEPTED if outcome.accepted else REJECTED,
                source,
                outcome.stream_id,
                outcome.time,
                msgspec.Raw(self._encode(outcome)),
                outcome.version,
                outcome.correlation_id,
                outcome.command_id,
                None,
                "1.0",
            )
        )

    def decode_outcome(self, value: bytes) -> Outcome:
        """The outcome in a record's value."""
        return self._decode_outcome(self._decode_cloud_event(value).data)


def _in_utc(time: datetime) -> datetime:
    if time.tzinfo is None:
        raise UndecodableMessage("the time has no offset from UTC")
    if time.year not in YEARS:
        raise UndecodableMessage(f"the time {time.isoformat()} is not one of the years {YEARS[0]} to {YEARS[-1]}")
    return time if time.tzinfo is UTC else time.astimezone(UTC)


def _upcasting(upcast: Upcast) -> Callable[[msgspec.Raw], Message]:
    """Decode the data of an old version. A step that stumbles over it has found that it is not of that version."""
    as_it_lies = msgspec.json.Decoder(Data, float_hook=Decimal).decode

    def decode_data(data: msgspec.Raw) -> Message:
        fields = as_it_lies(data)
        try:
            fields = upcast(fields)
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise UndecodableMessage(f"{upcast.steps[0].old} cannot be upcast: {error!r}") from error
        return msgspec.convert(fields, upcast.kind)

    return decode_data


def utc_now() -> datetime:
    """The time for messages made here and now, at the edge: HTTP bodies and load tests."""
    return datetime.now(UTC)
