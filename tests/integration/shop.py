"""The outside world of an integration test: sends commands as another service does, asks the views, reads topics."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import aiohttp

from app.kernel import Aggregate, Command, Envelope, stream_id_of
from app.runtime.codec import Codec, utc_now
from app.runtime.kafka.cluster import KafkaCluster
from app.runtime.kafka.sender import RecordSender
from app.runtime.ports import Record, TopicPartition
from app.runtime.settings import Settings
from app.runtime.topics import Topics, partition_of

TIMEOUT_S = 30.0


class Shop:
    """Talks to one fleet. Close it."""

    def __init__(self, settings: Settings, session: aiohttp.ClientSession) -> None:
        self._settings, self._session = settings, session
        self._sender = RecordSender(settings.brokers)
        self._sent = 0
        self.topics = Topics(settings.topic_prefix)

    async def close(self) -> None:
        """Let go of the producer."""
        await self._sender.close()

    def partition(self, key: str) -> int:
        """Where a key belongs."""
        return partition_of(key, self._settings.partitions)

    def ids(self, partition: int, count: int, name: str) -> list[str]:
        """Ids that belong to a partition."""
        return [id_ for n in range(1_000) if self.partition(id_ := f"{name}-{n}") == partition][:count]

    async def send(self, of: Aggregate[Any, Any, Any], command: Command, at: datetime | None = None) -> None:
        """Send a command onto its topic; it was wished for just now, or `at` another time."""
        self._sent += 1
        id_ = stream_id_of(command)
        envelope = Envelope(f"shop-{self._sent}", id_, at or utc_now(), command)
        value = Codec(of.commands).encode(envelope, "/shop")
        await self._sender.send(
            TopicPartition(self.topics.commands(of.category), self.partition(id_)), id_.encode(), value
        )

    async def get(self, url: str) -> tuple[int, Any]:
        """A view's status and answer."""
        async with self._session.get(url) as got:
            return got.status, await got.json(content_type=None)

    async def until(self, url: str, holds: Callable[[int, Any], bool], timeout_s: float = TIMEOUT_S) -> Any:
        """The view's answer, once it is as wished."""
        seen: Any = None
        try:
            async with asyncio.timeout(timeout_s):
                while not holds(*(seen := await self.get(url))):  # noqa: ASYNC110 - what is waited for is another process
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"{url} stays at {seen}") from None
        return seen[1]

    async def records(self, topic: str) -> list[Record]:
        """Every settled record of a topic."""
        partitions = [TopicPartition(topic, number) for number in range(self._settings.partitions)]
        async with KafkaCluster(self._settings.brokers).reader() as reader:
            bounds = await reader.bounds(partitions)
            chunks = reader.read({p: bounds[p].begin for p in partitions}, {p: bounds[p].end for p in partitions})
            return [record async for chunk in chunks for record in chunk.records]

    async def told(self, topic: str) -> list[dict[str, Any]]:
        """Every record's CloudEvent."""
        return [json.loads(record.value or b"") for record in await self.records(topic)]

    async def until_records(self, topic: str, count: int) -> list[Record]:
        """A topic's records, once there are so many."""
        found: list[Record] = []
        async with asyncio.timeout(TIMEOUT_S):
            while len(found) < count:
                found = await self.records(topic)
        return found
