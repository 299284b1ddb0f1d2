"""The clusters that the contract is held against: the one in memory, and a real Kafka."""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.structs import TopicPartition as KafkaTopicPartition

from app.runtime.kafka.admin import delete_topics, ensure_topics
from app.runtime.kafka.cluster import KafkaCluster
from app.runtime.ports import Cluster, Header, LogChunk, Record, RecordBatch, TopicPartition, TransactionalProducer
from app.runtime.simulated import SimulatedCluster
from app.runtime.topics import Topic

Content = tuple[bytes | None, bytes | None, Sequence[Header]]


class TestedCluster(ABC):
    """A cluster, and what the contract needs besides the port. Names are given a suffix: tests share the broker."""

    __test__ = False
    cluster: Cluster

    def __init__(self) -> None:
        self._suffix = uuid.uuid4().hex[:8]

    def name(self, name: str) -> str:
        """A topic or transactional id that no other test has."""
        return f"{name}.{self._suffix}"

    async def make_topic(self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> str:
        """Make a topic; its full name."""
        topic = Topic(self.name(name), dict(config or {}), partitions)
        await self._make(topic)
        return topic.name

    @abstractmethod
    async def _make(self, topic: Topic) -> None: ...

    @abstractmethod
    async def delete_topic(self, topic: str) -> None:
        """Delete a topic by its full name."""

    @abstractmethod
    async def delete_before(self, partition: TopicPartition, offset: int) -> None:
        """Delete the oldest records, as retention does."""

    @abstractmethod
    async def close(self) -> None:
        """Let everything go."""

    async def started(self, transactional_id: str) -> TransactionalProducer:
        """A started producer."""
        producer = self.cluster.producer(self.name(transactional_id))
        await producer.start()
        return producer

    async def read(self, ends: Mapping[TopicPartition, int]) -> list[LogChunk]:
        """Everything up to `ends`. Waits for it: a commit is acknowledged before readers see it."""
        async with self.cluster.reader() as reader:
            return [chunk async for chunk in reader.read(dict.fromkeys(ends, 0), ends)]

    async def records(self, partition: TopicPartition, end: int) -> list[Record]:
        """The settled records of one partition, up to `end`."""
        chunks = await self.read({partition: end})
        assert not chunks or chunks[-1].position == end
        return [record for chunk in chunks for record in chunk.records]

    async def values(self, partition: TopicPartition, end: int) -> list[bytes | None]:
        """The values of the settled records of one partition, up to `end`."""
        return [record.value for record in await self.records(partition, end)]

    async def end(self, partition: TopicPartition) -> int:
        """The settled end."""
        async with self.cluster.reader() as reader:
            return (await reader.bounds([partition]))[partition].end


class InMemory(TestedCluster):
    """The simulated cluster."""

    def __init__(self, marks_after_requests: int) -> None:
        super().__init__()
        self.cluster = self._simulated = SimulatedCluster(marks_after_requests=marks_after_requests)

    async def _make(self, topic: Topic) -> None:
        self._simulated.create_topics([topic])

    async def delete_topic(self, topic: str) -> None:
        """Delete a topic."""
        self._simulated.delete_topic(topic)

    async def delete_before(self, partition: TopicPartition, offset: int) -> None:
        """Delete the oldest records."""
        self._simulated.log(partition).delete_before(offset)

    async def close(self) -> None:
        """Nothing to let go."""


class OnKafka(TestedCluster):
    """A real Kafka. A topic that does not exist is waited for as long as a request: not for long here."""

    def __init__(self, brokers: str) -> None:
        super().__init__()
        self._brokers = brokers
        self.cluster = self._kafka = KafkaCluster(brokers, request_timeout_ms=1_000)

    async def _make(self, topic: Topic) -> None:
        await ensure_topics(self._brokers, [topic], 1, 1)

    async def delete_topic(self, topic: str) -> None:
        """Delete a topic."""
        await delete_topics(self._brokers, [topic])

    async def delete_before(self, partition: TopicPartition, offset: int) -> None:
        """Delete the oldest records."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self._brokers)
        await admin.start()
        try:
            await admin.delete_records({KafkaTopicPartition(*partition): RecordsToDelete(offset)})
        finally:
            await admin.close()

    async def close(self) -> None:
        """Close the cluster's own connection."""
        await self._kafka.close()


def filled(producer: TransactionalProducer, *contents: Content | bytes) -> RecordBatch:
    """A batch of `contents`, of which those that are bytes are values without a key."""
    batch = producer.new_batch()
    for content in contents:
        key, value, headers = (None, content, ()) if isinstance(content, bytes) else content
        assert batch.append(key, value, headers)
    return batch
