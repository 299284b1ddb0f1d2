"""The wire form of messages: CloudEvents 1.0, structured mode, JSON.

A record's value is `{"specversion": "1.0", "id", "type", "source", "subject", "time", "dataschema", "data"}` with the
extensions `version` (of an event: its place in the stream; of a command: the version its sender expects),
`correlationid` and `causationid`. The record's key is the subject: the aggregate's id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from app.kernel import Envelope, Message, Outcome, stream_id_of
from app.kernel.errors import UndecodableMessage

Upcaster = Callable[[dict[str, Any]], tuple[str, dict[str, Any]]]
"""From the data of an old version to (the wire name, the data) of the next one."""

COMMAND_ID_CHARS_MAX = 128
ID_CHARS_MAX = 256
"""Ids of derived messages are made of the id of their cause and a number."""


class CloudEvent(msgspec.Struct, omit_defaults=True):
    """One record's value. Attributes that are not ours are ignored."""

    id: str
    type: str
    source: str
    subject: str
    time: datetime
    data: msgspec.Raw
    version: int | None = None
    correlationid: str | None = None
    causationid: str | None = None
    dataschema: str | None = None
    specversion: str = msgspec.field(default="")


ACCEPTED, REJECTED = "command.accepted.v1", "command.rejected.v1"


@dataclass(frozen=True)
class _Known:
    kind: type[Message]
    decode: Callable[[msgspec.Raw], Message]


class Codec:
    """Encodes and decodes the messages of the catalogue; `upcasters` go from an old wire name to a newer one."""

    def __init__(
        self,
        kinds: Iterable[type[Message]],
        upcasters: Mapping[str, Upcaster] | None = None,
        *,
        id_chars_max: int = ID_CHARS_MAX,
    ) -> None:
        self._id_chars_max = id_chars_max
        self._known = {kind.wire_name: _Known(kind, msgspec.json.Decoder(kind).decode) for kind in kinds}
        self._upcasters = dict(upcasters or {})
        self._decode_cloud_event = msgspec.json.Decoder(CloudEvent).decode
        self._encode = msgspec.json.Encoder(decimal_format="string").encode
        self._decode_outcome = msgspec.json.Decoder(Outcome).decode

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
            known = self._known.get(wire.type)
            message = known.decode(wire.data) if known is not None else self._upcast(wire.type, wire.data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UndecodableMessage(str(error)) from error
        if not wire.id or len(wire.id) > self._id_chars_max:
            raise UndecodableMessage(f"the id must have 1 to {self._id_chars_max} characters")
        if wire.subject != stream_id_of(message):
            raise UndecodableMessage(f"the subject {wire.subject[:64]!r} is not the id in the data")
        if wire.time.tzinfo is None:
            raise UndecodableMessage("the time has no offset from UTC")
        return Envelope(wire.id, wire.subject, wire.time, message, wire.version, wire.correlationid, wire.causationid)

    def _upcast(self, name: str, data: msgspec.Raw) -> Message:
        if name not in self._upcasters:
            raise UndecodableMessage(f"the type {name[:64]!r} is not in the catalogue")
        fields = msgspec.json.decode(data, type=dict[str, Any])
        for _ in range(len(self._upcasters)):
            if name not in self._upcasters:
                break
            name, fields = self._upcasters[name](fields)
        known = self._known.get(name)
        if known is None:
            raise UndecodableMessage(f"upcasters lead to {name!r}, which is not in the catalogue")
        return msgspec.convert(fields, known.kind)

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


def utc_now() -> datetime:
    """The time for messages made here and now, at the edge: HTTP bodies and load tests."""
    return datetime.now(UTC)
