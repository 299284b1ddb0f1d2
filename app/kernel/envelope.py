"""Envelopes: what is known about a message besides the message itself."""

from __future__ import annotations

from datetime import datetime
from typing import Generic, TypeVar

import msgspec

from app.kernel.messages import Message, Rejected

M_co = TypeVar("M_co", bound=Message, covariant=True)


class Envelope(msgspec.Struct, Generic[M_co], frozen=True):
    """One command or event with its identity and its causes.

    `version` is, of an event, its place in its stream (contiguous from 1); of a command, the version that its sender
    expects the stream to be at, or `None` where any will do. `time` is the time of the wish or fact, in UTC.
    """

    id: str
    stream_id: str
    time: datetime
    message: M_co
    version: int | None = None
    correlation_id: str | None = None
    causation_id: str | None = None


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one command: the stream's version after it and the ids of the events that it appended.

    `time` is when the command came, by the brokers' clock.
    """

    command_id: str
    command: str
    stream_id: str
    version: int
    time: datetime
    events: tuple[str, ...] = ()
    rejected: Rejected | None = None
    correlation_id: str | None = None

    @property
    def accepted(self) -> bool:
        """Whether the aggregate did what was asked."""
        return self.rejected is None


VERSION_CONFLICT = "version_conflict"


def version_conflict(expected: int, actual: int) -> Rejected:
    """The refusal of a command whose sender knew another version of the stream."""
    return Rejected(VERSION_CONFLICT, f"Expected version {expected}, the stream is at version {actual}")
