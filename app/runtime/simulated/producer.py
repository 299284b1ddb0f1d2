"""A transactional producer of the simulated cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar, cast

from aiokafka.errors import ProducerFenced

from app.kernel.errors import IllegalTransition, RetryablePipelineError
from app.runtime.ports import Header, RecordBatch, TopicPartition
from app.runtime.simulated.log import Content, Fate

if TYPE_CHECKING:
    from app.runtime.simulated.cluster import SimulatedCluster
    from app.runtime.simulated.link import Link

BATCH_OVERHEAD_BYTES = 61
RECORD_OVERHEAD_BYTES = 16
RECORD_BYTES_MAX = 2 << 20
T = TypeVar("T")


class SimulatedBatch:
    """Records on their way to one partition: as large as a real batch may be, more or less."""

    def __init__(self, bytes_max: int) -> None:
        self.contents: list[Content] = []
        self.size = BATCH_OVERHEAD_BYTES
        self._bytes_max = bytes_max
        self._full = False

    def append(self, key: bytes | None, value: bytes | None, headers: Sequence[Header] = ()) -> bool:
        """See `ports.RecordBatch`."""
        size = RECORD_OVERHEAD_BYTES + len(key or b"") + len(value or b"")
        size += sum(len(name) + len(content) + 2 for name, content in headers)
        limit = self._bytes_max if self.contents else RECORD_BYTES_MAX
        if self._full or self.size + size > limit:
            self._full = True
            return False
        self.size += size
        self.contents.append((key, value, tuple(headers)))
        return True

    def __len__(self) -> int:
        return len(self.contents)


class SimulatedProducer:
    """One transactional id, with the same lifecycle and the same errors as `kafka.producer.KafkaProducer`."""

    def __init__(self, cluster: SimulatedCluster, transactional_id: str, link: Link | None = None) -> None:
        self.transactional_id = transactional_id
        self._cluster = cluster
        self._link = link or cluster
        self._epoch: int | None = None
        self._open = False
        self._refused = False
        self._fenced = False
        self._closed = False

    async def start(self) -> None:
        """Fence every older producer of the id and end its open transaction."""
        if self._epoch is not None or self._closed:
            raise IllegalTransition(f"{self.transactional_id} was started before")
        self._closed = True
        self._epoch = await self._link.perform("start", lambda: self._cluster.claim(self.transactional_id))
        self._closed = False

    def new_batch(self) -> RecordBatch:
        """An empty batch."""
        return SimulatedBatch(self._cluster.batch_bytes_max)

    async def produce(self, batches: Mapping[TopicPartition, RecordBatch]) -> dict[TopicPartition, int]:
        """Send, and wait for every acknowledgement. Empty batches are left out."""
        epoch = self._ready()
        full = {partition: cast(SimulatedBatch, batch) for partition, batch in batches.items() if len(batch)}
        sent = [(partition, batch.contents, batch.size) for partition, batch in full.items()]
        self._open = self._refused = True
        bases = await self._request("produce", lambda: self._cluster.write(self.transactional_id, epoch, sent))
        self._refused = False
        return bases

    async def commit(self) -> None:
        """Commit the open transaction; nothing to do where none is open."""
        epoch = self._ready()
        if self._open:
            await self._end("commit", epoch, Fate.COMMITTED)

    async def abort(self) -> None:
        """End the open transaction without a trace. What a fenced producer left was aborted by the one after it."""
        if self._open and self._epoch is not None and not self._fenced and not self._closed:
            await self._end("abort", self._epoch, Fate.ABORTED)

    async def close(self) -> None:
        """Let go. An open transaction stays open until it is fenced or times out."""
        self._closed = True

    async def _end(self, step: str, epoch: int, fate: Fate) -> None:
        # Until there is an answer nobody knows how the transaction ended: nothing but `close` is left.
        self._open, self._closed = False, True
        await self._request(step, lambda: self._cluster.end(self.transactional_id, epoch, fate))
        self._refused = self._closed = False

    async def _request(self, step: str, act: Callable[[], T]) -> T:
        try:
            return await self._link.perform(step, act)
        except ProducerFenced:
            self._fenced = True
            raise

    def _ready(self) -> int:
        if self._epoch is None or self._closed:
            raise IllegalTransition(f"{self.transactional_id} is {'closed' if self._closed else 'not started'}")
        if self._fenced:
            raise ProducerFenced
        if self._refused:
            raise RetryablePipelineError(f"{self.transactional_id}: a batch was refused: abort before going on")
        return self._epoch
