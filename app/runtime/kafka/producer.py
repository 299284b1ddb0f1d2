"""A transactional producer on aiokafka: `ports.TransactionalProducer`."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from aiokafka.errors import UnknownTopicOrPartitionError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from app.kernel.errors import IllegalTransition, RetryablePipelineError
from app.runtime.kafka.client import BATCH_BYTES_MAX, REQUEST_BYTES_MAX, TransactionalClient
from app.runtime.kafka.connection import Connection, deadline
from app.runtime.ports import Header, RecordBatch, TopicPartition

_record_bytes = DefaultRecordBatchBuilder.estimate_size_in_bytes
_NO_HEADERS: list[tuple[str, bytes | None]] = []


class KafkaBatch:
    """Records on their way to one partition. Kept thin: `append` is on the path of every record."""

    __slots__ = ("_append", "builder")

    def __init__(self) -> None:
        self.builder = BatchBuilder(BATCH_BYTES_MAX, 0, is_transactional=True)
        self._append: Callable[..., Any] = self._append_first

    def append(self, key: bytes | None, value: bytes | None, headers: Sequence[Header] = ()) -> bool:
        """See `ports.RecordBatch`. A record that an empty batch refuses is larger than brokers accept."""
        encoded = [*headers] if headers else _NO_HEADERS
        return self._append(timestamp=None, key=key, value=value, headers=encoded) is not None

    def _append_first(
        self, *, timestamp: None, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]]
    ) -> Any:
        # aiokafka takes a batch's first record whatever its size, and the broker would then refuse the batch.
        self._append = self.builder.append
        if _record_bytes(key, value, headers) > REQUEST_BYTES_MAX:
            self.builder.close()
            return None
        return self._append(timestamp=timestamp, key=key, value=value, headers=headers)

    def __len__(self) -> int:
        return cast(int, self.builder.record_count())


class _Phase(enum.Enum):
    NEW = "new"
    READY = "ready"
    OPEN = "open"
    ENDING = "ending"
    FAILED = "failed"
    CLOSED = "closed"


class KafkaProducer:
    """One transactional id.

    ::

        NEW ─start─▶ READY ─produce─▶ OPEN ─commit, abort─▶ ENDING ─▶ READY
                                       │ a refused batch       │ no answer
                                       ▼                       ▼
                                     FAILED ─abort─▶ READY   ENDING (only `close` is left)

    Whatever is awaited has a deadline. aiokafka would commit a transaction of which a batch was refused, without a
    word: so every batch's answer is awaited, and a transaction with a refused one cannot be committed any more.
    """

    def __init__(self, connection: Connection, transactional_id: str) -> None:
        self.transactional_id = transactional_id
        self._connection = connection
        self._client: TransactionalClient | None = None
        self._phase = _Phase.NEW

    async def start(self) -> None:
        """Fence every older producer of the id and end its open transaction."""
        self._expect(_Phase.NEW)
        self._client = TransactionalClient(self._connection, self.transactional_id)
        try:
            async with deadline(self._connection.start_timeout_s, f"the start of {self.transactional_id}"):
                await self._client.start()
        except BaseException:
            await asyncio.shield(self.close())
            raise
        self._phase = _Phase.READY

    def new_batch(self) -> RecordBatch:
        """An empty batch."""
        return KafkaBatch()

    async def produce(self, batches: Mapping[TopicPartition, RecordBatch]) -> dict[TopicPartition, int]:
        """Send, and wait for every acknowledgement. Empty batches are left out."""
        self._expect(_Phase.READY, _Phase.OPEN)
        client, was = self._live(), self._phase
        self._phase = _Phase.FAILED
        async with deadline(self._connection.transaction_timeout_s, f"a produce of {self.transactional_id}"):
            if was is _Phase.READY:
                await client.begin_transaction()
            answers = await self._send(client, batches)
        self._phase = _Phase.OPEN
        return answers

    async def _send(
        self, client: TransactionalClient, batches: Mapping[TopicPartition, RecordBatch]
    ) -> dict[TopicPartition, int]:
        full = {partition: cast(KafkaBatch, batch) for partition, batch in batches.items() if len(batch)}
        for topic in {partition.topic for partition in full}:
            await _check_partitions(client, topic, full)
        futures: dict[TopicPartition, asyncio.Future[Any]] = {}
        try:
            for partition, batch in full.items():
                futures[partition] = await client.send_batch(
                    batch.builder, partition.topic, partition=partition.partition
                )
            answers = await asyncio.gather(*futures.values())
        finally:
            for future in futures.values():
                _forget(future)
        return {partition: _base_offset(partition, sent) for partition, sent in zip(futures, answers, strict=True)}

    async def commit(self) -> None:
        """Commit the open transaction; nothing to do where none is open. Without an answer its fate is open."""
        self._expect(_Phase.READY, _Phase.OPEN)
        if self._phase is _Phase.OPEN:
            await self._end("commit")

    async def abort(self) -> None:
        """End the open transaction without a trace. What a fenced producer left was aborted by the one after it."""
        if self._client is None or self._client.dead or self._phase not in (_Phase.OPEN, _Phase.FAILED):
            return
        if self._client.in_transaction:
            await self._end("abort")
        self._phase = _Phase.READY

    async def _end(self, how: str) -> None:
        client = self._live()
        self._phase = _Phase.ENDING
        async with deadline(self._connection.transaction_timeout_s, f"the {how} of {self.transactional_id}"):
            await (client.commit_transaction() if how == "commit" else client.abort_transaction())
        self._phase = _Phase.READY

    async def close(self) -> None:
        """Let the connections go, within a deadline even where no broker answers. Abort first."""
        client, self._client = self._client, None
        self._phase = _Phase.CLOSED
        if client is not None:
            await client.end(self._connection.close_timeout_s)

    def _live(self) -> TransactionalClient:
        if self._client is None:
            raise IllegalTransition(f"{self.transactional_id} is not started")
        return self._client

    def _expect(self, *phases: _Phase) -> None:
        if self._phase in phases:
            return
        if self._phase is _Phase.FAILED:
            raise RetryablePipelineError(f"{self.transactional_id}: a batch was refused: abort before going on")
        raise IllegalTransition(f"{self.transactional_id} is {self._phase.value}")

    def __repr__(self) -> str:
        return f"<KafkaProducer {self.transactional_id} {self._phase.value}>"


async def _check_partitions(client: TransactionalClient, topic: str, batches: Mapping[TopicPartition, Any]) -> None:
    known = await client.partitions_for(topic)
    unknown = [partition for partition in batches if partition.topic == topic and partition.partition not in known]
    if unknown:
        raise UnknownTopicOrPartitionError(f"{topic} has {len(known)} partitions, records were for {unknown}")


def _base_offset(partition: TopicPartition, sent: Any) -> int:
    # After a retry the broker may know that it has the batch, but no longer at which offset.
    if sent.offset < 0:
        raise RetryablePipelineError(f"the offset of a batch for {partition} is unknown")
    return int(sent.offset)


def _forget(future: asyncio.Future[Any]) -> None:
    """Nobody waits for it any more: neither now, nor for an exception of later."""
    if not future.done():
        future.cancel()
    elif not future.cancelled():
        future.exception()
