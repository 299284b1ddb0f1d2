"""Following a small compacted topic of one partition: what every worker must know, told through Kafka."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from aiokafka.errors import KafkaError

from app.kernel.errors import FleetError
from app.runtime.ports import Cluster, LogReader, TopicPartition

log = logging.getLogger(__name__)

FOLLOW_EVERY_S = 0.25
PAUSE_S_MAX = 2.0
"""Between two attempts while the brokers are away."""

Note = Callable[[bytes | None, bytes | None], None]
"""Take the newest value of a key; `None` where it is gone."""


async def read_compacted(cluster: Cluster, partition: TopicPartition, note: Note) -> int:
    """Read everything up to the present end; the position there."""
    async with cluster.reader() as reader:
        return await _read_on(reader, partition, note, None)


async def follow_compacted(cluster: Cluster, partition: TopicPartition, note: Note, position: int | None) -> None:
    """Read what is new, again and again, until cancelled. Unreadable brokers are waited for."""
    pause_s = FOLLOW_EVERY_S
    while True:
        try:
            async with cluster.reader() as reader:
                while True:
                    position = await _read_on(reader, partition, note, position)
                    pause_s = FOLLOW_EVERY_S
                    await asyncio.sleep(FOLLOW_EVERY_S)
        except (KafkaError, OSError, TimeoutError, FleetError) as error:
            log.info("%s cannot be read now: %r", partition.topic, error)
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, PAUSE_S_MAX)


async def _read_on(reader: LogReader, partition: TopicPartition, note: Note, position: int | None) -> int:
    bounds = (await reader.bounds([partition]))[partition]
    start = bounds.begin if position is None or not bounds.begin <= position <= bounds.end else position
    if start == bounds.end:
        return start
    async for chunk in reader.read({partition: start}, {partition: bounds.end}):
        for record in chunk.records:
            note(record.key, record.value)
        start = chunk.position
    return start
