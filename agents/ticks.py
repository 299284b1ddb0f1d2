"""The time, as agents are told it: by records (docs/decisions/0007-time-as-records.md)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec

from app.kernel.errors import UndecodableMessage
from app.runtime.codec import NOT_JSON
from app.runtime.ports import Record


class Tick(msgspec.Struct, frozen=True):
    """The time has come at least so far."""

    time: Annotated[datetime, msgspec.Meta(tz=True)]


_decode = msgspec.json.Decoder(Tick).decode


def decode_tick(record: Record) -> Tick:
    """The tick in a record."""
    try:
        return _decode(record.value or b"")
    except NOT_JSON as error:
        raise UndecodableMessage(str(error)) from error
