"""What the engine relies on in a Kafka. The cluster in memory and a real one answer the same questions alike."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest
from aiokafka.errors import KafkaError, ProducerFenced

from app.kernel.errors import IllegalTransition, RetryablePipelineError
from app.runtime.ports import LogBounds, TopicPartition
from tests.contract.clusters import InMemory, OnKafka, TestedCluster, filled

TOO_LARGE = b"x" * (2 << 20)


@pytest.fixture(params=["simulated", "simulated, slow marks", "kafka"])
async def tested(request: pytest.FixtureRequest) -> AsyncIterator[TestedCluster]:
    cluster: TestedCluster
    if request.param == "kafka":
        cluster = OnKafka(request.getfixturevalue("kafka").brokers)
    else:
        cluster = InMemory(marks_after_requests=5 if "slow" in request.param else 0)
    yield cluster
    await cluster.close()


@pytest.fixture
async def log(tested: TestedCluster) -> TopicPartition:
    return TopicPartition(await tested.make_topic("events"), 0)


async def test_committed_records_are_read_once_and_in_order(tested: TestedCluster, log: TopicPartition) -> None:
    producer = await tested.started("p")
    for first in (0, 3, 6):
        await producer.produce({log: filled(producer, *(b"%d" % n for n in range(first, first + 3)))})
        await producer.commit()
    await producer.close()
    assert await tested.values(log, 12) == [b"%d" % n for n in range(9)]


async def test_aborted_records_are_never_read(tested: TestedCluster, log: TopicPartition) -> None:
    producer = await tested.started("p")
    await producer.produce({log: filled(producer, b"aborted")})
    await producer.abort()
    await producer.produce({log: filled(producer, b"committed")})
    await producer.commit()
    await producer.close()
    assert await tested.values(log, 4) == [b"committed"]


async def test_an_open_transaction_holds_the_end_back(tested: TestedCluster, log: TopicPartition) -> None:
    first, second = await tested.started("first"), await tested.started("second")
    await second.produce({log: filled(second, b"before")})
    await second.commit()
    assert await tested.values(log, 2) == [b"before"]
    await first.produce({log: filled(first, b"open")})
    await second.produce({log: filled(second, b"after")})
    await second.commit()
    assert await tested.end(log) == 2
    await first.commit()
    assert await tested.values(log, 6) == [b"before", b"open", b"after"]
    await asyncio.gather(first.close(), second.close())


async def test_base_offsets_are_those_of_the_first_records_and_marks_take_one(
    tested: TestedCluster, log: TopicPartition
) -> None:
    producer = await tested.started("p")
    assert await producer.produce({log: filled(producer, b"0", b"1")}) == {log: 0}
    assert await producer.produce({log: filled(producer, b"2")}) == {log: 2}
    await producer.commit()
    assert await producer.produce({log: filled(producer, b"4")}) == {log: 4}
    await producer.commit()
    await producer.close()
    assert [record.offset for record in await tested.records(log, 6)] == [0, 1, 2, 4]


async def test_one_transaction_spans_partitions_and_topics(tested: TestedCluster) -> None:
    names = [await tested.make_topic("changelog", 3), await tested.make_topic("events", 3)]
    partitions = [TopicPartition(name, number) for name in names for number in range(3)]
    producer = await tested.started("p")
    bases = await producer.produce({p: filled(producer, repr(p).encode()) for p in partitions})
    assert bases == dict.fromkeys(partitions, 0)
    assert [await tested.end(partition) for partition in partitions] == [0] * 6
    await producer.commit()
    await producer.close()
    chunks = [chunk for chunk in await tested.read(dict.fromkeys(partitions, 2)) if chunk.records]
    assert {chunk.partition: [r.value for r in chunk.records] for chunk in chunks} == {
        p: [repr(p).encode()] for p in partitions
    }


async def test_a_second_start_fences_the_first_and_ends_its_transaction(
    tested: TestedCluster, log: TopicPartition
) -> None:
    zombie = await tested.started("p")
    await zombie.produce({log: filled(zombie, b"zombie")})
    owner = await tested.started("p")
    assert await tested.end(log) == 2, "the open transaction was ended by the start"
    await owner.produce({log: filled(owner, b"owner")})
    with pytest.raises(ProducerFenced):
        await zombie.commit()
    await zombie.abort()
    await owner.commit()
    await asyncio.gather(zombie.close(), owner.close())
    assert await tested.values(log, 4) == [b"owner"]


async def test_a_fenced_producer_cannot_produce(tested: TestedCluster, log: TopicPartition) -> None:
    zombie = await tested.started("p")
    owner = await tested.started("p")
    with pytest.raises(ProducerFenced):
        await zombie.produce({log: filled(zombie, b"zombie")})
    with pytest.raises((KafkaError, RetryablePipelineError)):
        await zombie.commit()
    await asyncio.gather(zombie.close(), owner.close())
    assert await tested.end(log) == 0


async def test_a_fenced_producer_cannot_end_the_new_owners_transaction(
    tested: TestedCluster, log: TopicPartition
) -> None:
    zombie = await tested.started("p")
    await zombie.produce({log: filled(zombie, b"zombie")})
    owner = await tested.started("p")
    await owner.produce({log: filled(owner, b"owner")})
    with pytest.raises(ProducerFenced):
        await zombie.abort()
    await owner.commit()
    await asyncio.gather(zombie.close(), owner.close())
    assert await tested.values(log, 4) == [b"owner"]


async def test_what_a_closed_producer_left_open_is_ended_by_the_next_start(
    tested: TestedCluster, log: TopicPartition
) -> None:
    gone = await tested.started("p")
    await gone.produce({log: filled(gone, b"left open")})
    await gone.close()
    assert await tested.end(log) == 0
    owner = await tested.started("p")
    assert await tested.end(log) == 2
    await owner.close()
    assert await tested.values(log, 2) == []


async def test_keys_headers_and_tombstones_are_kept(tested: TestedCluster, log: TopicPartition) -> None:
    contents = [
        (b"key", b"value", [("cause", b"why"), ("empty", b"")]),
        (b"key", None, []),
        (None, b"", []),
        (b"", b"value", []),
    ]
    producer = await tested.started("p")
    await producer.produce({log: filled(producer, *contents)})
    await producer.commit()
    await producer.close()
    records = await tested.records(log, 5)
    assert [(record.key, record.value, list(record.headers)) for record in records] == contents
    assert all(record.timestamp > 0 for record in records)


async def test_a_batch_that_the_broker_refuses_cannot_be_committed(tested: TestedCluster, log: TopicPartition) -> None:
    small = TopicPartition(await tested.make_topic("small", config={"max.message.bytes": "2000"}), 0)
    producer = await tested.started("p")
    with pytest.raises(KafkaError):
        await producer.produce({log: filled(producer, b"good"), small: filled(producer, b"x" * 5_000)})
    with pytest.raises(RetryablePipelineError):
        await producer.commit()
    with pytest.raises(RetryablePipelineError):
        await producer.produce({log: filled(producer, b"after")})
    await producer.abort()
    assert await tested.values(log, 2) == []
    await producer.produce({log: filled(producer, b"after the abort")})
    await producer.commit()
    await producer.close()
    assert await tested.values(log, 4) == [b"after the abort"]


async def test_a_topic_that_does_not_exist_is_refused(tested: TestedCluster, log: TopicPartition) -> None:
    nowhere, beyond = TopicPartition(tested.name("nowhere"), 0), TopicPartition(log.topic, 7)
    for missing in (nowhere, beyond):
        producer = await tested.started("p")
        with pytest.raises(KafkaError):
            await producer.produce({log: filled(producer, b"good"), missing: filled(producer, b"lost")})
        await producer.abort()
        await producer.close()
    assert await tested.end(log) == 0


async def test_a_record_too_large_for_any_batch_is_refused_by_an_empty_one(tested: TestedCluster) -> None:
    producer = await tested.started("p")
    empty = producer.new_batch()
    assert not empty.append(b"key", TOO_LARGE)
    assert len(empty) == 0
    assert producer.new_batch().append(b"key", TOO_LARGE[:-1_000])
    await producer.close()


async def test_a_full_batch_says_so_and_is_accepted(tested: TestedCluster, log: TopicPartition) -> None:
    producer = await tested.started("p")
    batch = producer.new_batch()
    count = next(n for n in itertools.count() if not batch.append(b"key", b"x" * 10_000))
    assert len(batch) == count > 10
    assert not batch.append(b"key", b"x" * 10_000), "a batch that was full stays full"
    await producer.produce({log: batch})
    await producer.commit()
    await producer.close()
    assert len(await tested.records(log, count + 1)) == count


async def test_empty_batches_and_empty_transactions_leave_nothing(tested: TestedCluster, log: TopicPartition) -> None:
    producer = await tested.started("p")
    assert await producer.produce({log: producer.new_batch()}) == {}
    await producer.commit()
    await producer.commit()
    await producer.abort()
    await producer.close()
    assert await tested.end(log) == 0


async def test_a_producer_has_one_life(tested: TestedCluster, log: TopicPartition) -> None:
    producer = tested.cluster.producer(tested.name("p"))
    await producer.abort()
    with pytest.raises(IllegalTransition):
        await producer.produce({log: filled(producer, b"too early")})
    await producer.start()
    with pytest.raises(IllegalTransition):
        await producer.start()
    await producer.close()
    await producer.close()
    with pytest.raises(IllegalTransition):
        await producer.commit()


async def test_an_empty_topic_has_equal_bounds_and_nothing_to_read(tested: TestedCluster, log: TopicPartition) -> None:
    async with tested.cluster.reader() as reader:
        assert await reader.bounds([]) == {}
        assert await reader.bounds([log]) == {log: LogBounds(0, 0)}
        assert [chunk async for chunk in reader.read({log: 0}, {log: 0})] == []


async def test_the_position_passes_marks_and_aborted_records_at_the_end(
    tested: TestedCluster, log: TopicPartition
) -> None:
    producer = await tested.started("p")
    await producer.produce({log: filled(producer, b"kept")})
    await producer.commit()
    for _ in range(3):
        await producer.produce({log: filled(producer, b"aborted", b"aborted")})
        await producer.abort()
    await producer.close()
    chunks = await tested.read({log: 11})
    assert chunks[-1].position == 11
    assert [record.value for chunk in chunks for record in chunk.records] == [b"kept"]
    async with tested.cluster.reader() as reader:
        tail = [chunk async for chunk in reader.read({log: 2}, {log: 11})]
    assert (tail[0].start, tail[-1].position) == (2, 11)
    assert not any(chunk.records for chunk in tail)


async def test_a_reader_takes_several_partitions_each_from_its_own_position(tested: TestedCluster) -> None:
    topic = await tested.make_topic("events", 3)
    first, second, third = (TopicPartition(topic, number) for number in range(3))
    producer = await tested.started("p")
    values = {p: [b"%d/%d" % (p.partition, n) for n in range(5)] for p in (first, second, third)}
    await producer.produce({p: filled(producer, *values[p]) for p in values})
    await producer.commit()
    await producer.close()
    async with tested.cluster.reader() as reader:
        starts, ends = {first: 0, second: 3, third: 6}, dict.fromkeys((first, second, third), 6)
        chunks = [chunk async for chunk in reader.read(starts, ends)]
    assert {chunk.partition: [r.value for r in chunk.records] for chunk in chunks if chunk.records} == {
        first: values[first],
        second: values[second][3:],
    }


async def test_a_reader_can_go_on_where_it_was(tested: TestedCluster, log: TopicPartition) -> None:
    producer = await tested.started("p")
    async with tested.cluster.reader() as reader:
        position = 0
        for value in (b"first", b"second"):
            await producer.produce({log: filled(producer, value)})
            await producer.commit()
            chunks = [chunk async for chunk in reader.read({log: position}, {log: position + 2})]
            assert [r.value for chunk in chunks for r in chunk.records] == [value]
            assert chunks[0].start == position
            position = chunks[-1].position
    await producer.close()
    assert position == 4


async def test_a_follower_gets_what_is_committed_as_it_comes(tested: TestedCluster, log: TopicPartition) -> None:
    producer = await tested.started("p")
    async with tested.cluster.reader() as reader:
        following = reader.follow({log: 0})
        position, seen = 0, []
        for value in (b"first", b"second", b"third"):
            await producer.produce({log: filled(producer, value)})
            await producer.commit()
            async with asyncio.timeout(10):
                while value not in seen:
                    chunk = await anext(following)
                    assert chunk.start == position
                    position = chunk.position
                    seen += [record.value for record in chunk.records]
        assert seen == [b"first", b"second", b"third"]
    await producer.close()


async def test_a_log_whose_beginning_was_deleted_begins_later(tested: TestedCluster, log: TopicPartition) -> None:
    producer = await tested.started("p")
    await producer.produce({log: filled(producer, b"0", b"1", b"2", b"3", b"4")})
    await producer.commit()
    assert await tested.values(log, 6) == [b"0", b"1", b"2", b"3", b"4"]
    await tested.delete_before(log, 3)
    async with tested.cluster.reader() as reader:
        bounds = (await reader.bounds([log]))[log]
        assert (bounds.begin, bounds.end) == (3, 6)
        chunks = [chunk async for chunk in reader.read({log: bounds.begin}, {log: bounds.end})]
        assert [record.value for chunk in chunks for record in chunk.records] == [b"3", b"4"]
        with pytest.raises(RetryablePipelineError):
            async for _ in reader.read({log: 1}, {log: bounds.end}):
                pass
    await producer.close()


async def test_an_offset_outside_of_the_log_is_an_error(tested: TestedCluster, log: TopicPartition) -> None:
    async with tested.cluster.reader() as reader:
        with pytest.raises(RetryablePipelineError):
            async for _ in reader.read({log: 5}, {log: 9}):
                pass


async def test_a_hundred_thousand_records_come_in_chunks_without_a_gap(
    tested: TestedCluster, log: TopicPartition
) -> None:
    producer = await tested.started("p")
    total, batch = 100_000, producer.new_batch()
    for number in range(total):
        if not batch.append(b"%d" % number, b"v" * 100):
            await producer.produce({log: batch})
            batch = producer.new_batch()
            assert batch.append(b"%d" % number, b"v" * 100)
    await producer.produce({log: batch})
    await producer.commit()
    await producer.close()
    chunks = await tested.read({log: total + 1})
    assert len(chunks) > 2
    assert all(chunk.start == before.position for before, chunk in itertools.pairwise(chunks))
    assert [r.key for chunk in chunks for r in chunk.records] == [b"%d" % number for number in range(total)]
    assert chunks[-1].position == total + 1


async def test_a_topic_that_was_made_again_has_another_id(tested: TestedCluster) -> None:
    topic, other = await tested.make_topic("events"), await tested.make_topic("other")
    missing = tested.name("missing")
    before = await tested.cluster.topic_ids([topic, other, missing])
    assert before.keys() == {topic, other}
    assert len(set(before.values())) == 2
    await tested.delete_topic(topic)
    assert await tested.cluster.topic_ids([topic]) == {}
    assert await tested.make_topic("events") == topic
    after = await tested.cluster.topic_ids([topic, other])
    assert after[topic] != before[topic]
    assert after[other] == before[other]
    assert await tested.cluster.topic_ids([]) == {}
