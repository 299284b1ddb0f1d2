"""The ids of topics. aiokafka's own metadata request stops before the version that has them: this is version 12."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Sequence
from io import BytesIO
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, NodeNotReadyError, UnknownTopicOrPartitionError, for_code
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Boolean, CompactArray, CompactString, Int16, Int32, Schema, TaggedFields

from app.kernel.errors import IllegalTransition
from app.runtime.kafka.connection import Connection, deadline

NO_ID = uuid.UUID(int=0)


class Uuid(AbstractType[uuid.UUID]):
    """Sixteen bytes."""

    @classmethod
    def encode(cls, value: uuid.UUID) -> bytes:
        """The bytes of an id."""
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> uuid.UUID:
        """The id in the next bytes."""
        return uuid.UUID(bytes=data.read(16))


class MetadataResponse_v12(Response):
    """KIP-516: topics with their ids."""

    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString()),
                ("port", Int32),
                ("rack", CompactString()),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString()),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", CompactString()),
                ("topic_id", Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("topic_authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class MetadataRequest_v12(RequestStruct):
    """Asks for topics by name."""

    API_KEY = 3
    API_VERSION = 12
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = MetadataResponse_v12
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", Uuid), ("name", CompactString()), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class TopicIdsRequest(Request[MetadataRequest_v12]):
    """The metadata of `topics`, whatever version the connection speaks beside it."""

    API_KEY = 3

    def __init__(self, topics: Sequence[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[MetadataRequest_v12]) -> MetadataRequest_v12:
        """The request as it goes over the wire. Asking must never make a topic."""
        return request_struct_class([(NO_ID, topic, {}) for topic in self._topics], False, False, {})


class TopicIds:
    """Asks for the ids of topics over one client that is connected by the first question.

    It belongs to the event loop of that question, until `close`.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._client: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asking = asyncio.Lock()

    async def ask(self, topics: Sequence[str]) -> dict[str, str]:
        """The id of every topic of `topics` that there is, in hexadecimal."""
        if not topics:
            return {}
        async with self._asking, deadline(self._connection.stall_timeout_s, "asking for topic ids"):
            client = await self._connected()
            try:
                return _ids(await self._ask_any(client, topics))
            except (KafkaError, OSError):
                # The brokers it knows may be gone: the next question finds new ones.
                await self._drop()
                raise

    async def _ask_any(self, client: Any, topics: Sequence[str]) -> Any:
        nodes = [broker.nodeId for broker in client.cluster.brokers()]
        random.shuffle(nodes)
        failure: KafkaError = NodeNotReadyError("the cluster has no brokers")
        for node in nodes:
            try:
                return await client.send(node, TopicIdsRequest(topics))
            except KafkaError as error:
                failure = error
        raise failure

    async def _connected(self) -> Any:
        loop = asyncio.get_running_loop()
        if self._client is None:
            client = AIOKafkaClient(**self._connection.client_options)
            try:
                await client.bootstrap()
            except BaseException:
                await client.close()
                raise
            self._client, self._loop = client, loop
        if self._loop is not loop:
            raise IllegalTransition("topic ids are asked for from two event loops: give each a cluster of its own")
        return self._client

    async def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def close(self) -> None:
        """Let the connection go."""
        async with deadline(self._connection.close_timeout_s, "closing the connection"):
            await self._drop()


def _ids(response: Any) -> dict[str, str]:
    ids: dict[str, str] = {}
    for error_code, topic, topic_id, *_ in response.topics:
        error = for_code(error_code)
        if topic_id != NO_ID:
            ids[topic] = topic_id.hex
        elif error is not UnknownTopicOrPartitionError:
            raise error(topic)
    return ids
