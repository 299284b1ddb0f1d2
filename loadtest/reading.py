"""What a recount reads: whole topics as they stand on the brokers, and the order view page by page."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

import aiohttp
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from app.kernel.errors import BrokerUnavailable
from loadtest import connecting

PAGE_ROWS = 500
PAGE_TRY_S = 0.5
PAGE_TIMEOUT_S = 60.0
READ_TIMEOUT_MS = 500
STALLS_MAX = 40


class Raw(NamedTuple):
    """One record as it stands in the log."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


async def read_topic(brokers: str, topic: str, partitions: int) -> AsyncIterator[Raw]:
    """Every settled record of the topic, in log order within its partition; bounded by its present end."""
    consumer: Any = AIOKafkaConsumer(
        bootstrap_servers=brokers,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=4 << 20,
    )
    await connecting.start(consumer, brokers)
    try:
        assigned = [TopicPartition(topic, number) for number in range(partitions)]
        consumer.assign(assigned)
        ends = await consumer.end_offsets(assigned)
        stalls = 0
        while not await _at_end(consumer, ends):
            fetched = await consumer.getmany(timeout_ms=READ_TIMEOUT_MS, max_records=20_000)
            stalls = 0 if fetched else stalls + 1
            if stalls > STALLS_MAX:
                raise BrokerUnavailable(
                    f"{topic} cannot be read to its end: a transaction is open, or brokers are away"
                )
            for partition, records in fetched.items():
                for record in records:
                    yield Raw(partition.partition, record.offset, record.key, record.value)
    except KafkaError as error:
        raise BrokerUnavailable(
            f"{topic} cannot be read: {error!r}; does it exist, with {partitions} partitions?"
        ) from error
    finally:
        await connecting.stop(consumer)


async def _at_end(consumer: Any, ends: dict[TopicPartition, int]) -> bool:
    # The position, not the last record's offset: markers of transactions take offsets as well.
    return all([await consumer.position(partition) >= end for partition, end in ends.items()])


async def read_view(urls: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Every row of the order view, page by page, from one worker after the other."""
    rows: dict[str, dict[str, Any]] = {}
    deadline = time.monotonic() + PAGE_TIMEOUT_S
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PAGE_TIMEOUT_S)) as session:
        after: str | None = ""
        page = 0
        while after is not None:
            body = await _page(session, urls[page % len(urls)], after)
            page += 1
            if body is None:
                if time.monotonic() > deadline:
                    raise BrokerUnavailable("the order view cannot be read: are the workers ready? See `fleet status`")
                await asyncio.sleep(PAGE_TRY_S)
                continue
            rows |= {row["order_id"]: row for row in body["items"]}
            after = body["next"]
            deadline = time.monotonic() + PAGE_TIMEOUT_S
    return rows


async def _page(session: aiohttp.ClientSession, url: str, after: str) -> dict[str, Any] | None:
    """One page, or `None` where the worker cannot serve it now: a partition may be moving."""
    params = {"limit": str(PAGE_ROWS)} | ({"after": after} if after else {})
    try:
        async with session.get(f"{url}/orders", params=params) as answer:
            answer.raise_for_status()
            body: dict[str, Any] = await answer.json()
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None
    return body
