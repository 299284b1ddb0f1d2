"""With a broker that hangs, every step ends by its deadline, and nothing of a closed producer is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition as KafkaTopicPartition

from app.buses.event import BusEvent
from app.buses.kafka import KafkaBus
from app.kernel.errors import BrokerUnavailable, BusUnavailable, RetryablePipelineError
from app.local.kafka import LocalKafka
from app.local.processes import wait_until
from app.runtime.kafka.admin import ensure_topics
from app.runtime.kafka.cluster import KafkaCluster
from app.runtime.kafka.lasting import LastingProducer
from app.runtime.kafka.sender import RecordSender
from app.runtime.ports import TopicPartition, TransactionalProducer
from app.runtime.topics import Topic

OUTAGE = (KafkaError, OSError, RetryablePipelineError)
STOP_TIMEOUT_S = 5.0
NOBODY = "127.0.0.1:1"
"""A port that nothing listens on."""


@pytest.fixture
async def cluster(kafka: LocalKafka) -> AsyncIterator[KafkaCluster]:
    cluster = KafkaCluster(
        kafka.brokers,
        transaction_timeout_ms=1_500,
        request_timeout_ms=500,
        start_timeout_s=1.5,
        stall_timeout_s=1.5,
        close_timeout_s=1.0,
    )
    yield cluster
    await cluster.close()


@pytest.fixture
async def log(kafka: LocalKafka) -> TopicPartition:
    topic = f"outage.{uuid.uuid4().hex[:8]}"
    await ensure_topics(kafka.brokers, [Topic(topic)], 1, 1)
    return TopicPartition(topic, 0)


@contextmanager
def hung(kafka: LocalKafka) -> Iterator[None]:
    pid = kafka.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    assert wait_until(lambda: all_threads_stopped(pid), STOP_TIMEOUT_S)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def all_threads_stopped(pid: int) -> bool:
    """A thread that is on a processor as the signal comes goes on for a moment, and may answer a request."""
    stats = [(task / "stat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)


async def produce(producer: TransactionalProducer, log: TopicPartition) -> None:
    batch = producer.new_batch()
    assert batch.append(b"key", b"value")
    await producer.produce({log: batch})


async def close_at_once(producer: TransactionalProducer) -> None:
    """Closing is quick, and no task of the producer lives on."""
    started_s = time.monotonic()
    await producer.close()
    assert time.monotonic() - started_s < 2
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("step", ["produce", "commit", "abort"])
async def test_every_step_of_a_transaction_has_a_deadline(
    kafka: LocalKafka, cluster: KafkaCluster, log: TopicPartition, step: str
) -> None:
    producer = cluster.producer(f"{log.topic}.p")
    await producer.start()
    await produce(producer, log)
    with hung(kafka):
        with pytest.raises(OUTAGE):
            await {"produce": lambda: produce(producer, log), "commit": producer.commit, "abort": producer.abort}[
                step
            ]()
        await close_at_once(producer)


async def test_a_start_against_a_hung_broker_has_a_deadline(kafka: LocalKafka, cluster: KafkaCluster) -> None:
    producer = cluster.producer("never")
    with hung(kafka):
        with pytest.raises(OUTAGE):
            await producer.start()
        await close_at_once(producer)


async def test_a_start_without_a_broker_has_a_deadline() -> None:
    producer = KafkaCluster(NOBODY).producer("never")
    with pytest.raises(OUTAGE):
        await producer.start()
    await close_at_once(producer)


async def test_a_reader_without_progress_gives_up(
    kafka: LocalKafka, cluster: KafkaCluster, log: TopicPartition
) -> None:
    producer = cluster.producer(f"{log.topic}.p")
    await producer.start()
    await produce(producer, log)
    await producer.commit()
    await producer.close()
    async with cluster.reader() as reader:
        bounds = await reader.bounds([log])
        with pytest.raises(RetryablePipelineError, match=log.topic), hung(kafka):
            async for _ in reader.read({log: 0}, {log: bounds[log].end + 10}):
                pass


async def test_topic_ids_are_answered_again_after_an_outage(
    kafka: LocalKafka, cluster: KafkaCluster, log: TopicPartition
) -> None:
    before = await cluster.topic_ids([log.topic])
    with hung(kafka), pytest.raises(OUTAGE):
        await cluster.topic_ids([log.topic])
    assert await cluster.topic_ids([log.topic]) == before


async def test_a_sender_begins_anew_where_the_broker_misses_what_it_sent(
    kafka: LocalKafka, log: TopicPartition
) -> None:
    """A leader that is deposed loses what no other replica had: the producer's sequence has a hole, for ever."""
    sender = RecordSender(kafka.brokers, timeout_s=5.0)
    try:
        assert await sender.send(log, None, b"before") == 0
        assert sender._producer.present is not None
        sender._producer.present._txn_manager.increment_sequence_number(KafkaTopicPartition(*log), 3)
        with pytest.raises(BrokerUnavailable, match="OutOfOrderSequence"):
            await sender.send(log, None, b"after a hole")
        assert await sender.send(log, None, b"anew") == 1
    finally:
        await sender.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_who_waits_for_a_producer_that_is_given_up_is_told_at_once(
    kafka: LocalKafka, log: TopicPartition
) -> None:
    """Cancelled instead, the caller would take it for its own end: a request that is never answered."""
    sender, bus = RecordSender(kafka.brokers), KafkaBus(kafka.brokers, log.topic)
    await bus.start()
    event = BusEvent("e", "note.noted.v1", "s", datetime(2026, 1, 1, tzinfo=UTC))
    try:
        await sender.send(log, None, b"before")
        await bus.publish(event)
        with hung(kafka):
            waiting = [
                asyncio.create_task(sender.send(log, None, b"meanwhile")),
                asyncio.create_task(bus.publish(event)),
            ]
            for lasting in (sender._producer, bus._producer):
                await _until_something_waits(lasting)
                lasting.give_up(lasting.present)
            for task, told in zip(waiting, (BrokerUnavailable, BusUnavailable), strict=True):
                with pytest.raises(told, match="ProducerClosed"):
                    await asyncio.wait_for(task, 3.0)
    finally:
        await sender.close()
        await bus.stop()


async def _until_something_waits(lasting: LastingProducer) -> None:
    assert lasting.present is not None
    accumulator = lasting.present._message_accumulator
    async with asyncio.timeout(5.0):
        while not accumulator._batches and not accumulator._pending_batches:  # noqa: ASYNC110 - inside of aiokafka
            await asyncio.sleep(0.01)


async def test_a_sender_sends_again_after_an_outage(kafka: LocalKafka, log: TopicPartition) -> None:
    sender = RecordSender(kafka.brokers, timeout_s=1.0)
    try:
        assert await sender.send(log, None, b"before") == 0
        with hung(kafka), pytest.raises(BrokerUnavailable):
            await sender.send(log, None, b"meanwhile")
        async with asyncio.timeout(20):
            while not await _sent(sender, log):  # noqa: ASYNC110 - the broker wakes up by itself
                await asyncio.sleep(0.05)
    finally:
        await sender.close()


async def _sent(sender: RecordSender, log: TopicPartition) -> bool:
    try:
        await sender.send(log, None, b"after")
    except BrokerUnavailable:
        return False
    return True
