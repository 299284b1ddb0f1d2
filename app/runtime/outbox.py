"""The outbox: all records of one round, packed into batches that the broker accepts."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence

from app.kernel.errors import RecordTooLarge
from app.runtime.ports import Header, RecordBatch, TopicPartition, TransactionalProducer
from app.runtime.unit import Emitted

Rows = Iterable[tuple[bytes, bytes | None]]

RECORD_BYTES_MAX = 900_000
"""The largest row or derived record: Kafka's default limit of 1 MiB, less room for headers and framing."""


class Outbox:
    """Batches by partition, in as many waves as it takes: every wave holds at most one batch per partition.

    Waves are produced one after the other, so that a partition's records keep their order. Records above
    `RECORD_BYTES_MAX` are refused, but for topics in `large`: dead letters must take whatever a source took.
    """

    def __init__(self, new_batch: Callable[[], RecordBatch], large: Container[str] = ()) -> None:
        self._new_batch = new_batch
        self._large = large
        self._waves: list[dict[TopicPartition, RecordBatch]] = []
        self._last: dict[TopicPartition, tuple[int, RecordBatch]] = {}

    def __bool__(self) -> bool:
        return bool(self._waves)

    def add_rows(self, partition: TopicPartition, rows: Rows) -> None:
        """Add rows on their way to a changelog."""
        batch = self._open(partition)
        append = batch.append
        for key, value in rows:
            if value is not None and len(value) > RECORD_BYTES_MAX:
                check_size(key, value)
            if not append(key, value):
                append = self._next(partition, key, value, ()).append

    def add(self, emitted: Sequence[Emitted]) -> None:
        """Add derived records."""
        batches: dict[tuple[str, int], RecordBatch] = {}
        for topic, number, key, value, headers in emitted:
            if value is not None and len(value) > RECORD_BYTES_MAX and topic not in self._large:
                check_size(key, value)
            target = (topic, number)
            batch = batches.get(target)
            if batch is None:
                batch = batches[target] = self._open(TopicPartition(topic, number))
            if not batch.append(key, value, headers):
                batches[target] = self._next(TopicPartition(topic, number), key, value, headers)

    async def produce(self, producer: TransactionalProducer) -> dict[TopicPartition, int]:
        """Send every wave and wait for its acknowledgements. The offset after each partition's last record."""
        ends: dict[TopicPartition, int] = {}
        for wave in self._waves:
            for partition, base in (await producer.produce(wave)).items():
                ends[partition] = base + len(wave[partition])
        return ends

    def _open(self, partition: TopicPartition) -> RecordBatch:
        last = self._last.get(partition)
        return self._start(partition, 0) if last is None else last[1]

    def _start(self, partition: TopicPartition, wave: int) -> RecordBatch:
        while len(self._waves) <= wave:
            self._waves.append({})
        batch = self._waves[wave][partition] = self._new_batch()
        self._last[partition] = wave, batch
        return batch

    def _next(
        self, partition: TopicPartition, key: bytes | None, value: bytes | None, headers: Sequence[Header]
    ) -> RecordBatch:
        wave, full = self._last[partition]
        if not len(full):
            raise _too_large(partition, key, value)
        batch = self._start(partition, wave + 1)
        if not batch.append(key, value, headers):
            raise _too_large(partition, key, value)
        return batch


def check_size(key: bytes | None, value: bytes | None) -> None:
    """Raise `RecordTooLarge` where no broker with default limits would take the record."""
    size = len(key or b"") + len(value or b"")
    if size > RECORD_BYTES_MAX:
        raise RecordTooLarge(
            f"a row or event of {size} bytes, key {key!r:.80}: at most {RECORD_BYTES_MAX} are accepted"
        )


def _too_large(partition: TopicPartition, key: bytes | None, value: bytes | None) -> RecordTooLarge:
    size = len(key or b"") + len(value or b"")
    return RecordTooLarge(
        f"a record of {size} bytes with key {key!r:.80} does not fit into a batch for {partition.topic}"
    )
