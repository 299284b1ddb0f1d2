"""How agents send commands: to the aggregate's partition, with ids that a replay repeats."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from datetime import datetime

import msgspec

from app.kernel import Command, Envelope, stream_id_of
from app.runtime.codec import Codec
from app.runtime.topics import partition_of
from app.runtime.unit import UnitOfWork

NAMESPACE = uuid.UUID("5a0f6f5e-6d2c-5a55-9d8e-0d4d3f0b7c11")

CommandTopics = Callable[[type[Command]], str]
"""The commands topic of a command's aggregate."""


class Cause(msgspec.Struct, frozen=True):
    """What a command is sent for: an event, or a timer."""

    id: str
    time: datetime
    correlation_id: str | None = None


class Sending:
    """Sends the commands of one sender: a chain, a reaction."""

    def __init__(self, sender: str, kinds: Iterable[type[Command]], partitions: int, target: CommandTopics) -> None:
        kinds = tuple(kinds)
        self.topics = tuple(sorted({target(kind) for kind in kinds}))
        self._sender = sender
        self._partitions = partitions
        self._target = target
        self._codec = Codec(kinds)

    def send(self, unit: UnitOfWork, command: Command, cause: Cause, number: int) -> None:
        """Send one. Its id is derived from what it is for: a replay sends the same, and the aggregate knows it."""
        id_ = str(uuid.uuid5(NAMESPACE, f"{self._sender}|{cause.id}|{number}"))
        stream_id = stream_id_of(command)
        envelope = Envelope(id_, stream_id, cause.time, command, None, cause.correlation_id, cause.id)
        key = stream_id.encode()
        value = self._codec.encode(envelope, f"/eventfleet/{self._sender}")
        unit.emit(self._target(type(command)), key, value, partition=partition_of(key, self._partitions))
