"""The backlog that W1 folds: the events of many orders, each created, paid, shipped and delivered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from aiokafka import AIOKafkaProducer

from app.domain.order import ORDER, Item, OrderCreated, OrderShipped, PaymentProcessed, ShipmentDelivered
from app.kernel import Envelope
from app.runtime.codec import Codec
from app.runtime.topics import partition_of

EVENTS_PER_ORDER = 4
ORDERS_OPEN_TOGETHER = 1_000
"""Orders whose events are interleaved: a batch holds events of many orders, as it does in life."""
BATCH_BYTES = 256 << 10
SINCE = datetime(2026, 1, 1, tzinfo=UTC)


def order_id(number: int) -> str:
    """The id of one order of the backlog."""
    return f"order-{number:08d}"


def events(orders: int) -> Iterator[tuple[str, bytes]]:
    """(order id, record value) in the order in which they are written."""
    codec = Codec(ORDER.events)
    for first in range(0, orders, ORDERS_OPEN_TOGETHER):
        block = range(first, min(first + ORDERS_OPEN_TOGETHER, orders))
        for version in range(1, EVENTS_PER_ORDER + 1):
            for number in block:
                yield order_id(number), codec.encode(_envelope(number, version), "/bench")


def _envelope(number: int, version: int) -> Envelope[Any]:
    at = SINCE + timedelta(seconds=number)
    id_ = order_id(number)
    return Envelope(f"{id_}.{version}", id_, at, _event(id_, number, version), version, f"c-{number}", f"c-{number}")


def _event(id_: str, number: int, version: int) -> Any:
    price, customer = Decimal(number % 9_000 + 100) / 100, f"customer-{number % 5_000}"
    match version:
        case 1:
            items = (Item(f"product-{number % 100}", 2, price), Item(f"product-{number % 7}", 1, price))
            return OrderCreated(id_, customer, "Ada Lovelace", "ada@example.org", items, price * 3)
        case 2:
            return PaymentProcessed(id_, customer, f"payment-{number}", price * 3)
        case 3:
            return OrderShipped(id_, customer, f"tracking-{number}")
        case _:
            return ShipmentDelivered(id_, customer, f"tracking-{number}")


async def write(brokers: str, topic: str, partitions: int, orders: int) -> int:
    """Write the backlog; how many events it has."""
    producer: Any = AIOKafkaProducer(bootstrap_servers=brokers, enable_idempotence=True, max_batch_size=BATCH_BYTES)
    await producer.start()
    try:
        return await _write(producer, topic, partitions, orders)
    finally:
        await producer.stop()


async def _write(producer: Any, topic: str, partitions: int, orders: int) -> int:
    batches = {number: producer.create_batch() for number in range(partitions)}
    sent: list[asyncio.Future[Any]] = []
    count = 0
    for key, value in events(orders):
        count += 1
        number = partition_of(key, partitions)
        if batches[number].append(timestamp=None, key=key.encode(), value=value) is None:
            sent.append(await producer.send_batch(batches[number], topic, partition=number))
            batches[number] = producer.create_batch()
            batches[number].append(timestamp=None, key=key.encode(), value=value)
    for number, batch in batches.items():
        if batch.record_count():
            sent.append(await producer.send_batch(batch, topic, partition=number))
    await asyncio.gather(*sent)
    return count
