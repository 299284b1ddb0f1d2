"""A real Kafka: `ports.Cluster` on aiokafka."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from app.runtime.kafka.connection import Connection, Timeouts
from app.runtime.kafka.producer import KafkaProducer
from app.runtime.kafka.reader import KafkaReader
from app.runtime.kafka.topic_ids import TopicIds
from app.runtime.ports import LogReader, TransactionalProducer


class KafkaCluster:
    """The brokers at `brokers` ("host:port,…"). `timeouts` are those fields of `Connection`."""

    def __init__(self, brokers: str, **timeouts: Unpack[Timeouts]) -> None:
        self.connection = Connection(brokers, **timeouts)
        self._topic_ids = TopicIds(self.connection)

    def producer(self, transactional_id: str) -> TransactionalProducer:
        """A producer that fences every older one of its id as it starts."""
        return KafkaProducer(self.connection, transactional_id)

    def reader(self) -> LogReader:
        """A reader of settled records."""
        return KafkaReader(self.connection)

    async def topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        """The id of each topic. Missing topics are left out."""
        return await self._topic_ids.ask(topics)

    async def close(self) -> None:
        """Let the connection of `topic_ids` go. Producers and readers are closed by whoever made them."""
        await self._topic_ids.close()
