"""Poison and outages: a worker goes on, or waits, and ends when it is told to."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from app.local.kafka import LocalKafka
from app.local.ports import free_ports
from app.local.workers import LocalWorker
from app.runtime.kafka.cluster import KafkaCluster
from app.runtime.ports import Record, TopicPartition
from app.runtime.topics import Topics, partition_of
from tests.conftest import ROOT
from tests.integration.fleet import TestedFleet, until

STOP_S_MAX = 14.0


def create(worker: LocalWorker, order_id: str) -> int:
    """Create an order over HTTP; the status."""
    body = {
        "order_id": order_id,
        "customer_id": "c",
        "customer_name": "Ann",
        "customer_email": "a@example.org",
        "items": [{"product_id": "p", "quantity": 1, "price": "1.00"}],
    }
    request = urllib.request.Request(f"{worker.url}/commands/CreateOrder", json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


async def settled(brokers: str, topic: str, partitions: int) -> list[Record]:
    wanted = [TopicPartition(topic, number) for number in range(partitions)]
    async with KafkaCluster(brokers).reader() as reader:
        bounds = await reader.bounds(wanted)
        begins, ends = ({p: b.begin for p, b in bounds.items()}, {p: b.end for p, b in bounds.items()})
        return [record async for chunk in reader.read(begins, ends) for record in chunk.records]


async def send(brokers: str, topic: str, partition: int, key: bytes | None, value: bytes | None) -> None:
    producer: Any = AIOKafkaProducer(bootstrap_servers=brokers, max_request_size=2 << 20)
    await producer.start()
    try:
        await producer.send_and_wait(topic, value, key=key, partition=partition, headers=[("trace", b"7")])
    finally:
        await producer.stop()


async def test_poison_goes_to_the_dead_letters_whole(fleet: TestedFleet) -> None:
    worker, topics, s = fleet.worker("one"), Topics(fleet.settings.topic_prefix), fleet.settings
    await fleet.up(worker)
    poison = [
        b"x" * 1_000_000,
        b"no json",
        b"{}",
        json.dumps({"id": "1", "type": "order.destroy.v1"}).encode(),
        b"\xff\xfe",
        None,
    ]
    partition = partition_of("o1", s.partitions)
    for value in poison:
        await send(s.brokers, topics.commands("orders"), partition, b"o1", value)
    assert await asyncio.to_thread(create, worker, "o1") == 201
    dead = await settled(s.brokers, topics.dead_letters("deciding-orders"), s.partitions)
    assert [record.value for record in dead] == poison
    for number, record in enumerate(dead):
        headers = dict(record.headers)
        assert record.key == b"o1"
        assert headers["trace"] == b"7"
        assert headers["cause"] == b"undecodable"
        assert headers["cause-detail"]
        assert headers["source-topic"].decode() == topics.commands("orders")
        assert (headers["source-partition"], headers["source-offset"]) == (b"%d" % partition, b"%d" % number)


async def test_misplaced_command_is_refused(fleet: TestedFleet) -> None:
    """A command in another partition than its key's would give the order a second history."""
    worker, topics, s = fleet.worker("one"), Topics(fleet.settings.topic_prefix), fleet.settings
    await fleet.up(worker)
    assert await asyncio.to_thread(create, worker, "o1") == 201
    command = (await settled(s.brokers, topics.commands("orders"), s.partitions))[0]
    wrong = (partition_of("o1", s.partitions) + 1) % s.partitions
    await send(s.brokers, topics.commands("orders"), wrong, command.key, command.value)
    assert await asyncio.to_thread(create, worker, "o2") == 201

    def dead_lettered() -> bool:
        with urllib.request.urlopen(f"{worker.url}/metrics", timeout=5) as answer:
            return 'status="undecodable"} 1.0' in answer.read().decode()

    await until(dead_lettered, 10)
    assert len(await settled(s.brokers, topics.events("orders"), s.partitions)) == 2


async def test_a_command_of_an_aborted_transaction_is_never_decided(fleet: TestedFleet) -> None:
    """The worker's own consumer reads what is committed. It is Faust's, whose default is to read everything."""
    worker, topics, s = fleet.worker("one"), Topics(fleet.settings.topic_prefix), fleet.settings
    await fleet.up(worker)
    assert await asyncio.to_thread(create, worker, "before") == 201
    command = (await settled(s.brokers, topics.commands("orders"), s.partitions))[0]
    assert command.value is not None
    number = partition_of("aborted", s.partitions)
    await abort(s.brokers, TopicPartition(topics.commands("orders"), number), b"aborted", command.value)
    behind = next(f"behind-{n}" for n in range(100) if partition_of(f"behind-{n}", s.partitions) == number)
    assert await asyncio.to_thread(create, worker, behind) == 201
    told = await settled(s.brokers, topics.outcomes("orders"), s.partitions)
    assert sorted(record.key or b"" for record in told) == sorted([b"before", behind.encode()])
    assert not await settled(s.brokers, topics.dead_letters("deciding-orders"), s.partitions)


async def abort(brokers: str, partition: TopicPartition, key: bytes, value: bytes) -> None:
    """Write a command with another id and for another order, in a transaction that comes to nothing."""
    producer = KafkaCluster(brokers).producer(f"another-{partition.topic}")
    await producer.start()
    command, batch = json.loads(value), producer.new_batch()
    command |= {"id": "aborted", "subject": key.decode(), "data": {**command["data"], "order_id": key.decode()}}
    batch.append(key, json.dumps(command).encode())
    await producer.produce({partition: batch})
    await producer.abort()
    await producer.close()


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[LocalKafka]:
    """A Kafka that a test may kill."""
    broker = LocalKafka(tmp_path / "kafka", free_ports(2), lib=ROOT / ".fleet" / "lib")
    try:
        yield broker
    finally:
        broker.stop()


async def test_worker_waits_for_brokers_and_comes_through_their_loss(own_kafka: LocalKafka, tmp_path: Path) -> None:
    fleet = TestedFleet(own_kafka, "", tmp_path)
    worker = fleet.worker("one")
    try:
        worker.start(with_parent=True)
        await until(lambda: "brokers" in str((worker.readiness() or {}).get("waiting_for")), 20)
        await asyncio.to_thread(own_kafka.start, with_parent=True)
        await until(lambda: "topics" in str((worker.readiness() or {}).get("waiting_for")), 20)
        await fleet.make_topics()
        await fleet.ready(worker)
        assert await asyncio.to_thread(create, worker, "before") == 201
        await _kill_broker(own_kafka)
        assert await asyncio.to_thread(create, worker, "meanwhile") in (202, 503)
        await until(lambda: "no answer" in str((worker.readiness() or {}).get("waiting_for")), 20)
        assert (worker.readiness() or {}).get("ready") is False
        await asyncio.to_thread(own_kafka.start, with_parent=True)
        await until(lambda: create(worker, "after") in (201, 409), 40)
        await fleet.ready(worker)
        await _kill_broker(own_kafka)
        assert await asyncio.to_thread(worker.stop), "told to stop in an outage, it did not"
    finally:
        fleet.down()


async def _kill_broker(kafka: LocalKafka) -> None:
    pid = kafka.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await until(lambda: kafka.pid is None, 10)
