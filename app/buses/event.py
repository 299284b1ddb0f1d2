"""What travels on a bus: a CloudEvent, thin or whole."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from app.kernel.errors import UndecodableMessage

SOURCE = "/eventfleet"


class BusEvent(msgspec.Struct, frozen=True):
    """One event. Without `data` it is thin, a notification: whoever hears it asks the views for more.

    `version` is the event's place in its stream. `key` orders: see the contract.
    """

    id: str
    type: str
    stream_id: str
    time: datetime
    version: int | None = None
    data: msgspec.Raw | None = None
    key: str | None = None
    source: str = SOURCE

    @property
    def ordered_by(self) -> str:
        """The ordering key: the stream, where no other was given."""
        return self.stream_id if self.key is None else self.key


def in_sequence(events: Sequence[BusEvent], key: str | None) -> list[BusEvent]:
    """The same events under one ordering key."""
    if not events:
        return []
    common = events[0].ordered_by if key is None else key
    return [msgspec.structs.replace(event, key=common) for event in events]


class _Wire(msgspec.Struct, omit_defaults=True):
    """CloudEvents 1.0, structured mode, with the extensions `version` and `partitionkey`."""

    id: str
    type: str
    source: str
    subject: str
    time: datetime
    version: int | None = None
    partitionkey: str | None = None
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    specversion: str = ""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Wire).decode


def encode(event: BusEvent) -> bytes:
    """The event on the wire."""
    data = msgspec.UNSET if event.data is None else event.data
    return _encode(
        _Wire(event.id, event.type, event.source, event.stream_id, event.time, event.version, event.key, data, "1.0")
    )


def decode(raw: bytes) -> BusEvent:
    """The event on the wire; `UndecodableMessage` where it is none."""
    try:
        wire = _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UndecodableMessage(f"no event of a bus: {error}") from error
    data = None if wire.data is msgspec.UNSET else msgspec.Raw(bytes(wire.data)) if wire.data else None
    return BusEvent(
        wire.id, wire.type, wire.subject, wire.time, wire.version, data, wire.partitionkey, source=wire.source
    )
