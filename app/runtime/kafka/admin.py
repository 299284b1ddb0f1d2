"""Making, listing and deleting topics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    BrokerResponseError,
    InvalidReplicationFactorError,
    KafkaError,
    NoError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    for_code,
)

from app.kernel.errors import BrokerUnavailable, ConfigurationRefused
from app.runtime.kafka.connection import Connection
from app.runtime.topics import Topic, same_names

RETRY_S = 0.05
T = TypeVar("T")


async def ensure_topics(
    brokers: str, topics: Sequence[Topic], partitions: int, replication: int, *, timeout_s: float = 60.0
) -> list[str]:
    """Make those of `topics` that are missing and wait until they have leaders; the names of what was made.

    Waits for the brokers as long as `timeout_s`, then raises `BrokerUnavailable`. A topic that exists with another
    number of partitions raises `ConfigurationRefused`: keys would go to other partitions than their history is in.
    """
    wanted = same_names(topics)
    counts = {topic.name: topic.partitions or partitions for topic in wanted}
    made: list[str] = []

    async def step(admin: Any) -> list[str] | None:
        found = await _describe(admin, list(counts))
        _check_counts({name: len(topic["partitions"]) for name, topic in found.items()}, counts)
        missing = [
            NewTopic(topic.name, counts[topic.name], replication, topic_configs=topic.config | durable(replication))
            for topic in wanted
            if topic.name not in found
        ]
        if missing:
            made.extend(await _make(admin, missing))
            return None
        return made if all(map(_has_leaders, found.values())) else None

    async with patient_admin(brokers, timeout_s) as patiently:
        return await patiently(step)


async def list_topics(brokers: str, *, timeout_s: float = 30.0) -> dict[str, int]:
    """Every topic's number of partitions, Kafka's own topics left out."""

    async def step(admin: Any) -> dict[str, int]:
        found = await admin.describe_topics()
        return {topic["topic"]: len(topic["partitions"]) for topic in found if not topic["is_internal"]}

    async with patient_admin(brokers, timeout_s) as patiently:
        return await patiently(step)


async def delete_topics(brokers: str, names: Sequence[str], *, timeout_s: float = 30.0) -> None:
    """Delete `names` with all their records and wait until they are gone. Missing topics are no error."""

    async def step(admin: Any) -> bool | None:
        left = list(await _describe(admin, names))
        if not left:
            return True
        for name, code in (await admin.delete_topics(left)).topic_error_codes:
            error = for_code(code)
            if error not in (NoError, UnknownTopicOrPartitionError):
                _raise(error, f"deleting {name} was refused: {error.__name__}")
        return None

    async with patient_admin(brokers, timeout_s) as patiently:
        await patiently(step)


def durable(replication: int) -> dict[str, str]:
    """How many replicas must have a record before it is acknowledged: all but those that may be away at any time."""
    return {"min.insync.replicas": str(replication // 2 + 1)} if replication > 2 else {}


class _Patience:
    """An admin client, and the deadline until which its steps are tried again."""

    def __init__(self, connection: Connection, until_s: float) -> None:
        self._connection = connection
        self._until_s = until_s
        self._admin: Any = None

    async def __call__(self, step: Callable[[Any], Awaitable[T | None]]) -> T:
        """Repeat `step` through outages until it has a result."""
        while True:
            failure: Exception | None = None
            try:
                async with asyncio.timeout(max(self._until_s - time.monotonic(), RETRY_S)):
                    result = await step(await self._connected())
                if result is not None:
                    return result
            except (KafkaError, OSError) as error:
                failure = error
                await self.close()
            if time.monotonic() > self._until_s:
                raise BrokerUnavailable(
                    f"the brokers at {self._connection.brokers} did not do what was asked in time ({failure!r}): "
                    "start them, or set FLEET_BROKERS to those that run"
                ) from failure
            await asyncio.sleep(RETRY_S)

    async def _connected(self) -> Any:
        if self._admin is None:
            self._admin = AIOKafkaAdminClient(**self._connection.client_options)
            await self._admin.start()
        return self._admin

    async def close(self) -> None:
        """Let the connection go."""
        admin, self._admin = self._admin, None
        if admin is not None:
            await admin.close()


@asynccontextmanager
async def patient_admin(brokers: str, timeout_s: float) -> AsyncIterator[_Patience]:
    """An admin client whose steps are tried again, through outages, for as long as `timeout_s`."""
    patience = _Patience(Connection(brokers), time.monotonic() + timeout_s)
    try:
        yield patience
    finally:
        await patience.close()


async def _describe(admin: Any, names: Iterable[str]) -> dict[str, Any]:
    """The metadata of those of `names` that there are."""
    # All topics are asked for: a broker may be set to make, with its own defaults, what it is asked for by name.
    wanted = set(names)
    return {topic["topic"]: topic for topic in await admin.describe_topics() if topic["topic"] in wanted}


def _check_counts(found: Mapping[str, int], counts: Mapping[str, int]) -> None:
    wrong = [f"{name} has {found[name]} and not {counts[name]}" for name in found if found[name] != counts[name]]
    if wrong:
        raise ConfigurationRefused(
            f"topics exist with another number of partitions: {'; '.join(wrong)}. Set FLEET_PARTITIONS to what they "
            "have, or use another FLEET_TOPIC_PREFIX: the number is fixed for the life of the data"
        )


async def _make(admin: Any, topics: Sequence[NewTopic]) -> Iterable[str]:
    made = []
    for name, code, *why in (await admin.create_topics(list(topics))).topic_errors:
        error = for_code(code)
        if error is InvalidReplicationFactorError:
            raise ConfigurationRefused(
                f"{name} was refused {topics[0].replication_factor} replicas: set FLEET_REPLICATION to no more than "
                "the number of brokers"
            )
        if error is NoError:
            made.append(name)
        elif error is not TopicAlreadyExistsError:
            _raise(error, f"{name} was refused by the brokers: {error.__name__} {' '.join(filter(None, why))}")
    return made


def _raise(error: type[BrokerResponseError], text: str) -> None:
    raise error(text) if error.retriable else ConfigurationRefused(text)


def _has_leaders(topic: Mapping[str, Any]) -> bool:
    partitions = topic["partitions"]
    return bool(partitions) and all(partition["leader"] >= 0 for partition in partitions)
