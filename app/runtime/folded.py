"""What goes into the fold of one shard in one round, and what comes out of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from app.kernel.errors import UndecodableMessage
from app.runtime.batch import Batch
from app.runtime.ports import Record
from app.runtime.shard import Shard
from app.runtime.unit import UnitOfWork

Piece = tuple[Batch, int]
"""A batch and the position from which on it is new to the shard."""

Work = tuple[Sequence[Record], list[Any]]
"""Records and their messages."""


@dataclass
class Folded:
    """A shard's part of a round. `events` counts messages by (type name, status)."""

    unit: UnitOfWork
    events: Counter[tuple[str, str]] = field(default_factory=Counter)
    records: int = 0
    parked: frozenset[bytes] = frozenset()
    unparked: frozenset[bytes] = frozenset()


def comes_back(shard: Shard, piece: Piece) -> bool:
    """Whether the piece is of the topic in which dead letters come back."""
    return piece[0].partition.topic == shard.agent.redrive


def new_records(shard: Shard, piece: Piece) -> Work:
    """What is new to the shard of a piece, decoded."""
    batch, position = piece
    records, messages = batch.records, batch.messages(shard.agent.decode_of(batch.partition.topic))
    if records and records[0].offset < position:
        first = next((i for i, record in enumerate(records) if record.offset >= position), len(records))
        return records[first:], messages[first:]
    return records, messages


def new_unit(shard: Shard, work: Sequence[Work]) -> UnitOfWork:
    """A unit of work in which the rows that will be needed are there already."""
    unit, agent = UnitOfWork(shard.partition, shard.opened()), shard.agent
    if agent.ahead is None:
        return unit
    prefix, key_of = agent.ahead.prefix, agent.ahead_key
    if key_of is None:
        unit.fetch_ahead(prefix + record.key for records, _ in work for record in records if record.key)
    else:
        decoded = (m for _, messages in work for m in messages if m.__class__ is not UndecodableMessage)
        unit.fetch_ahead(prefix + key_of(message) for message in decoded)
    return unit


def name_of(message: Any) -> str:
    """The type of a message, for metrics."""
    inner = getattr(message, "message", message)
    return getattr(inner, "wire_name", None) or type(inner).__name__
