"""What a pipeline needs from the world. Kafka and RocksDB stand behind these, and so do their fakes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import NamedTuple, Protocol

import msgspec

Header = tuple[str, bytes]


class TopicPartition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


class Record(Protocol):
    """One record of a log, as aiokafka's `ConsumerRecord` has it. `timestamp` is in milliseconds since the epoch."""

    @property
    def topic(self) -> str: ...
    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def headers(self) -> Sequence[Header]: ...


class Progress(msgspec.Struct, frozen=True):
    """How far a store reflects its log: the next offset, its topic id, and when in ms it was written."""

    position: int
    log_id: str
    written_ms: int


class PartitionStore(Protocol):
    """The rows of one agent in one partition. Rows and progress always move together, or not at all."""

    @property
    def progress(self) -> Progress | None:
        """How far the rows reflect their log; `None` while nothing was ever written."""

    def get(self, key: bytes) -> bytes | None: ...
    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The rows of `keys`, in that order."""

    def scan(
        self, prefix: bytes, after: bytes | None = None, limit: int = 1_000, *, backwards: bool = False
    ) -> list[tuple[bytes, bytes]]:
        """Up to `limit` rows whose key begins with `prefix` and, where given, is greater than `after`, in key order.

        `backwards`: from the greatest key down, and less than `after`.
        """

    def write(self, rows: Mapping[bytes, bytes | None], progress: Progress) -> None:
        """Put (or, with `None`, delete) rows and move the progress, atomically."""

    def wipe(self) -> None:
        """Start again with nothing."""

    def close(self) -> None:
        """Release the files. What was written before stays."""


class StoreFactory(Protocol):
    """Opens the store of one agent and partition; twice the same is an error until it was closed."""

    def __call__(self, agent: str, partition: int) -> PartitionStore: ...
    def holds(self, agent: str, partition: int) -> bool:
        """Whether there is anything of it here already."""

    def forget(self, agent: str) -> None:
        """Remove what there is of an agent that runs no more. What is open stays."""


class RecordBatch(Protocol):
    """Records on their way to one partition."""

    def append(self, key: bytes | None, value: bytes | None, headers: Sequence[Header] = ()) -> bool:
        """Add a record, or return False where the batch is full: the record then needs the next batch."""

    def __len__(self) -> int: ...


class TransactionalProducer(Protocol):
    """One transactional id. Starting it fences every older producer of that id and ends its open transaction."""

    async def start(self) -> None: ...
    def new_batch(self) -> RecordBatch: ...

    async def produce(self, batches: Mapping[TopicPartition, RecordBatch]) -> dict[TopicPartition, int]:
        """Send inside the transaction (begun where none is open), wait for every acknowledgement; the first offsets."""

    async def commit(self) -> None: ...
    async def abort(self) -> None:
        """End the open transaction, if there is one, without a trace."""

    async def close(self) -> None:
        """Let the connection go. An open transaction stays open until it is fenced or times out: abort first."""


class LogBounds(NamedTuple):
    """The first offset kept and the end: the offset after the last record that is settled."""

    begin: int
    end: int


class LogChunk(NamedTuple):
    """Some records of one partition and the position after them, control records counted."""

    partition: TopicPartition
    start: int
    records: Sequence[Record]
    position: int


class LogReader(Protocol):
    """Reads settled records (read_committed), without a group."""

    async def __aenter__(self) -> LogReader: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    async def bounds(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, LogBounds]: ...

    def read(
        self, positions: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
    ) -> AsyncIterator[LogChunk]:
        """Chunks from `positions` until every partition has reached its end."""

    def follow(self, positions: Mapping[TopicPartition, int]) -> AsyncIterator[LogChunk]:
        """Chunks from `positions` on, as they come, a moment late; without an end: whoever follows stops."""


class Cluster(Protocol):
    """A Kafka, or what stands for one."""

    def producer(self, transactional_id: str) -> TransactionalProducer: ...
    def reader(self) -> LogReader: ...
    async def topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        """The id of each topic: a topic that was deleted and made again has another. Missing topics are left out."""


class SourceControl(Protocol):
    """Moves the fetching of source partitions."""

    async def seek(self, partition: TopicPartition, offset: int) -> int:
        """Fetch from `offset` on; the seek epoch that batches fetched after it carry."""


class Clock(Protocol):
    """Time, so that tests can hold it in their hands."""

    def monotonic(self) -> float: ...
    def epoch_ms(self) -> int: ...
    async def sleep(self, seconds: float) -> None: ...
