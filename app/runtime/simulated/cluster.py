"""A cluster in memory: `ports.Cluster`, and what a test may do to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from aiokafka.errors import MessageSizeTooLargeError, ProducerFenced, UnknownTopicOrPartitionError

from app.runtime.ports import Clock, Header, LogReader, TopicPartition, TransactionalProducer
from app.runtime.simulated.clock import SimulatedClock
from app.runtime.simulated.faults import Fault, Faults, lost_connection
from app.runtime.simulated.log import Content, Fate, PartitionLog, SimulatedRecord, Transaction
from app.runtime.simulated.producer import SimulatedProducer
from app.runtime.simulated.reader import SimulatedReader
from app.runtime.topics import Topic

BATCH_BYTES_MAX = 512 << 10
RECORD_BYTES_MAX = 2 << 20
SIDE_EFFECTS = frozenset({"start", "produce", "commit", "abort", "seek"})
T = TypeVar("T")


class SimulatedCluster:
    """Topics, transactional ids and their epochs.

    `on_effect` is called with the name of every side effect, once it is done and before its caller learns of it:
    "start", "produce", "commit", "abort", "seek". A hook that raises is a crash between two effects. `fail_next` orders
    faults, at those steps and at "bounds", "read" and "topic_ids".

    A real coordinator acknowledges a commit or an abort before the partitions have its mark: for some milliseconds an
    end that is asked for lies before records that are committed. `marks_after_requests` makes it as many requests;
    `mark_later`, where it is set, is given each mark's writing to call it when it likes. `on_change` is called with
    each log that has more settled records.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        *,
        on_effect: Callable[[str], None] = lambda name: None,
        batch_bytes_max: int = BATCH_BYTES_MAX,
        chunk_records_max: int = 1_000,
        marks_after_requests: int = 0,
    ) -> None:
        self.clock = clock or SimulatedClock()
        self.on_effect = on_effect
        self.batch_bytes_max = batch_bytes_max
        self.chunk_records_max = chunk_records_max
        self._faults = Faults()
        self._topics: dict[str, list[PartitionLog]] = {}
        self._topic_ids: dict[str, str] = {}
        self._topics_made = 0
        self._epochs: dict[str, int] = {}
        self._open: dict[str, Transaction] = {}
        self._claims: dict[str, int] = {}
        self._claimed = 0
        self._marks_after_requests = marks_after_requests
        self._unmarked: dict[Transaction, int] = {}
        self.on_change: Callable[[PartitionLog], None] = lambda log: None
        self.mark_later: Callable[[Callable[[], None]], object] | None = None
        self._deposed: dict[TopicPartition, tuple[int, int]] = {}

    # The port

    def producer(self, transactional_id: str) -> TransactionalProducer:
        """A producer that fences every older one of its id as it starts."""
        return SimulatedProducer(self, transactional_id)

    def reader(self) -> LogReader:
        """A reader of settled records."""
        return SimulatedReader(self)

    async def topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        """The id of each topic. Missing topics are left out."""
        return await self.perform("topic_ids", lambda: self.ids_of(topics))

    async def idle(self) -> None:
        """Let others run."""
        await asyncio.sleep(0)

    def settled_end(self, log: PartitionLog) -> int:
        """The end as clients without a link of their own are told it."""
        partition = TopicPartition(log.topic, log.partition)
        end, requests = self._deposed.get(partition, (log.settled_end, 0))
        if requests > 1:
            self._deposed[partition] = end, requests - 1
        elif requests:
            del self._deposed[partition]
        return min(end, log.settled_end)

    # What a test may do

    def create_topics(self, topics: Iterable[Topic | str], partitions: int = 1) -> None:
        """Make topics, empty, each with an id that no other ever had. A topic's own number of partitions goes first."""
        for wanted in topics:
            topic = Topic(wanted) if isinstance(wanted, str) else wanted
            if topic.name in self._topics:
                raise ValueError(f"{topic.name} exists already")
            self._topics_made += 1
            self._topic_ids[topic.name] = f"{self._topics_made:032x}"
            limit = int(topic.config.get("max.message.bytes", RECORD_BYTES_MAX))
            self._topics[topic.name] = [
                PartitionLog(topic.name, number, limit) for number in range(topic.partitions or partitions)
            ]

    def delete_topic(self, name: str) -> None:
        """Delete a topic with all its records, whoever is writing there."""
        for log in self._topics.pop(name):
            for transaction in (*self._open.values(), *self._unmarked):
                if log in transaction.logs:
                    transaction.logs.remove(log)
        del self._topic_ids[name]

    def append(
        self,
        partition: TopicPartition,
        *records: tuple[bytes | None, bytes | None] | tuple[bytes | None, bytes | None, Sequence[Header]],
    ) -> int:
        """Add records outside of any transaction, as clients of the fleet do; the first one's offset."""
        contents = [(key, value, tuple(*headers)) for key, value, *headers in records]
        log = self.log(partition)
        base = log.append(contents, self.clock.epoch_ms())
        self.on_change(log)
        return base

    def records(self, partition: TopicPartition) -> list[SimulatedRecord]:
        """Every settled record of a partition, for assertions."""
        log = self.log(partition)
        return log.settled(log.begin, log.end + 1)[0]

    def log(self, partition: TopicPartition) -> PartitionLog:
        """A partition's log, to compact it or to delete from it."""
        log = self.find(partition)
        if log is None:
            raise UnknownTopicOrPartitionError(f"{partition.topic}/{partition.partition}")
        return log

    def fail_next(
        self,
        step: str,
        error: Exception | None = None,
        *,
        lost_ack: bool = False,
        times: int = 1,
        after: int = 0,
    ) -> None:
        """Order a fault, see `Fault`."""
        self._faults.order(Fault(step, error or lost_connection(), lost_ack, times, after))

    def time_out_transaction(self, transactional_id: str) -> None:
        """What the coordinator does with a transaction that is open for too long: abort it and fence its producer."""
        if transactional_id in self._open:
            self._epochs[transactional_id] += 1
            self._end(transactional_id, Fate.ABORTED)

    def time_out_transactions(self, open_s: float) -> list[str]:
        """Do so with all that have been open for so long; whose they were."""
        now_s = self.clock.monotonic()
        late = [name for name, transaction in self._open.items() if now_s - transaction.begun_s >= open_s]
        for name in late:
            self.time_out_transaction(name)
        return late

    @property
    def open_transactions(self) -> int:
        """How many transactions are not ended, or have marks to come."""
        return len(self._open) + len(self._unmarked)

    def depose_leader(self, partition: TopicPartition, requests: int) -> None:
        """Let so many requests for the end or records of a partition be answered by a leader of old, deposed now."""
        self._deposed[partition] = self.log(partition).settled_end, requests

    def ids_of(self, topics: Sequence[str]) -> dict[str, str]:
        """The ids of those topics that there are."""
        return {topic: self._topic_ids[topic] for topic in topics if topic in self._topic_ids}

    def find(self, partition: TopicPartition) -> PartitionLog | None:
        """A partition's log, if there is one."""
        logs = self._topics.get(partition.topic, [])
        return logs[partition.partition] if partition.partition < len(logs) else None

    def logs(self) -> list[PartitionLog]:
        """Every partition's log."""
        return [log for logs in self._topics.values() for log in logs]

    def logs_of(self, topic: str) -> list[PartitionLog]:
        """The logs of a topic's partitions, in their order."""
        return list(self._topics.get(topic, []))

    # What producers, readers and sources are made of

    async def perform(self, step: str, act: Callable[[], T]) -> T:
        """One request: others run while it is on its way, and again while its answer is."""
        await asyncio.sleep(0)
        self._mark_those_due()
        fault = self._faults.take(step)
        if fault is not None and not fault.lost_ack:
            raise fault.error
        result = act()
        if step in SIDE_EFFECTS:
            self.on_effect(step)
        await asyncio.sleep(0)
        if fault is not None:
            raise fault.error
        return result

    def claim(self, transactional_id: str) -> int:
        """Fence the older producers of an id; the epoch of the new one."""
        epoch = self._epochs[transactional_id] = self._epochs.get(transactional_id, 0) + 1
        self._claimed += 1
        self._claims[transactional_id] = self._claimed
        self._end(transactional_id, Fate.ABORTED)
        self._mark_all_of(transactional_id)
        return epoch

    def write(
        self, transactional_id: str, epoch: int, batches: Sequence[tuple[TopicPartition, Sequence[Content], int]]
    ) -> dict[TopicPartition, int]:
        """Append batches, each with its size in bytes, in the transaction. One too large does not stop the others."""
        self._check_epoch(transactional_id, epoch)
        self._mark_all_of(transactional_id)
        transaction = self._open.get(transactional_id)
        if transaction is None:
            claim, now_s = self._claims[transactional_id], self.clock.monotonic()
            transaction = self._open[transactional_id] = Transaction(transactional_id, claim=claim, begun_s=now_s)
        logs = [self.log(partition) for partition, _, _ in batches]
        bases: dict[TopicPartition, int] = {}
        refused: Exception | None = None
        for log, (partition, contents, size) in zip(logs, batches, strict=True):
            if size > log.record_bytes_max:
                refused = MessageSizeTooLargeError(f"{size} bytes for {partition.topic}")
            else:
                bases[partition] = log.append(contents, self.clock.epoch_ms(), transaction)
        if refused is not None:
            raise refused
        return bases

    def end(self, transactional_id: str, epoch: int, fate: Fate) -> None:
        """Commit or abort the open transaction."""
        self._check_epoch(transactional_id, epoch)
        self._end(transactional_id, fate)

    def _end(self, transactional_id: str, fate: Fate) -> None:
        transaction = self._open.pop(transactional_id, None)
        if transaction is not None:
            transaction.fate = fate
            self._unmarked[transaction] = self._marks_after_requests
            if self.mark_later is not None:
                self.mark_later(lambda: self._mark(transaction))
            elif not self._marks_after_requests:
                self._mark(transaction)

    def _mark_those_due(self) -> None:
        for transaction in list(self._unmarked):
            self._unmarked[transaction] -= 1
            if self._unmarked[transaction] <= 0:
                self._mark(transaction)

    def _mark_all_of(self, transactional_id: str) -> None:
        """The coordinator lets nobody go on under an id before the marks of its last transaction are written."""
        for transaction in list(self._unmarked):
            if transaction.transactional_id == transactional_id:
                self._mark(transaction)

    def _mark(self, transaction: Transaction) -> None:
        if self._unmarked.pop(transaction, None) is not None:
            for log in transaction.logs:
                log.mark(transaction)
                self.on_change(log)

    def _check_epoch(self, transactional_id: str, epoch: int) -> None:
        if self._epochs[transactional_id] != epoch:
            raise ProducerFenced
