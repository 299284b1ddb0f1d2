"""A fetched batch: all records of one partition that one fetch brought, decoded once for every agent that reads it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from app.kernel.errors import UndecodableMessage
from app.runtime.ports import Record, TopicPartition

log = logging.getLogger(__name__)

Decode = Callable[[Record], Any]
"""From a record to its message; raises `UndecodableMessage`."""


class Batch:
    """Consecutive records of one partition.

    `start` and `end` are the consumer's positions before and after the fetch. Offsets of records cannot tell where a
    batch begins: control records and compaction leave holes. `epoch` counts the seeks that were done on the partition
    before the fetch: a batch of an older epoch was fetched before a seek and must be dropped.
    """

    __slots__ = ("_messages", "end", "epoch", "partition", "records", "start")

    def __init__(self, partition: TopicPartition, records: Sequence[Record], epoch: int, start: int, end: int) -> None:
        self.partition = partition
        self.records = records
        self.epoch = epoch
        self.start = start
        self.end = end
        self._messages: list[Any] | None = None

    def messages(self, decode: Decode) -> list[Any]:
        """The decoded messages, one per record; an `UndecodableMessage` stands where there is none."""
        if self._messages is None:
            self._messages = decode_all(self.records, decode)
        return self._messages


def decode_all(records: Sequence[Record], decode: Decode) -> list[Any]:
    """Decode each record; those that cannot be are replaced by the error."""
    try:
        return [decode(record) for record in records]
    except Exception:  # noqa: BLE001 - looked at below, record by record
        return [_decode_or_error(record, decode) for record in records]


def _decode_or_error(record: Record, decode: Decode) -> Any:
    try:
        return decode(record)
    except UndecodableMessage as error:
        return error
    except Exception as error:
        # A decoder's bug must not hold up the partition for ever: the record is kept whole, and can be redriven.
        log.exception("a decoder stumbles over offset %s", record.offset)
        return UndecodableMessage(f"the decoder failed: {error!r}")
