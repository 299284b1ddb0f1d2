"""The floor: the least that any Python program on aiokafka must do for W1.

A bare loop that consumes the backlog, decodes every event, and produces as many bytes in as many transactions as the
fleet: one row per order and round. It keeps no state, folds nothing, recovers from nothing.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition

from app.domain.order import ORDER
from app.projections.orders import ORDERS
from app.runtime.codec import Codec
from bench.backlog import events

ROUND_RECORDS = 16_000
BATCH_BYTES = 512 << 10
POLL_MS = 500


async def floor(brokers: str, source: str, target: str, partitions: int) -> dict[str, Any]:
    """Run it; events, seconds, CPU seconds and memory."""
    consumer: Any = AIOKafkaConsumer(
        bootstrap_servers=brokers,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=1 << 20,
    )
    producer: Any = AIOKafkaProducer(
        bootstrap_servers=brokers, transactional_id="floor", max_batch_size=BATCH_BYTES, max_request_size=1 << 20
    )
    await consumer.start()
    await producer.start()
    try:
        return await _loop(consumer, producer, source, target, partitions)
    finally:
        await consumer.stop()
        await producer.stop()


async def _loop(consumer: Any, producer: Any, source: str, target: str, partitions: int) -> dict[str, Any]:
    assigned = [TopicPartition(source, number) for number in range(partitions)]
    consumer.assign(assigned)
    ends = await consumer.end_offsets(assigned)
    row, decode, count, rounds = _row(), Codec(ORDER.events).decode, 0, 0
    began, cpu = time.perf_counter(), time.process_time()
    while any([await consumer.position(partition) < end for partition, end in ends.items()]):
        fetched = await consumer.getmany(timeout_ms=POLL_MS, max_records=ROUND_RECORDS)
        if not fetched:
            continue
        await producer.begin_transaction()
        sent = []
        for partition, records in fetched.items():
            keys = {decode(record.value).stream_id.encode() for record in records}
            count += len(records)
            sent += await _send(producer, target, partition.partition, keys, row)
        await asyncio.gather(*sent)
        await producer.commit_transaction()
        rounds += 1
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "events": count,
        "seconds": time.perf_counter() - began,
        "cpu_s": time.process_time() - cpu,
        "rss_mb": rss * 1024 / 1e6,
        "rounds": rounds,
    }


async def _send(producer: Any, topic: str, partition: int, keys: set[bytes], row: bytes) -> list[Any]:
    batch, sent = producer.create_batch(), []
    for key in keys:
        if batch.append(timestamp=None, key=b"orders\x00" + key, value=row) is None:
            sent.append(await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
            batch.append(timestamp=None, key=b"orders\x00" + key, value=row)
    sent.append(await producer.send_batch(batch, topic, partition=partition))
    return sent


def _row() -> bytes:
    """An order's row as the fleet writes it, complete."""
    codec, row = Codec(ORDER.events), None
    for _, value in events(1):
        row = ORDERS.project(row, codec.decode(value))
    return msgspec.msgpack.encode([4, row])


if __name__ == "__main__":
    brokers_, source_, target_, partitions_ = sys.argv[1:]
    print(json.dumps(asyncio.run(floor(brokers_, source_, target_, int(partitions_)))))
