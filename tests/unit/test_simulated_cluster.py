"""What the simulated cluster can do beside the contract: faults, crashes, compaction, retention, a source, a clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from aiokafka.errors import KafkaConnectionError, ProducerFenced, RequestTimedOutError

from app.kernel.errors import IllegalTransition, RetryablePipelineError
from app.runtime.ports import LogBounds, LogChunk, TopicPartition, TransactionalProducer
from app.runtime.simulated import SimulatedClock, SimulatedCluster, SimulatedSource

LOG = TopicPartition("events", 0)


class Crash(BaseException):
    """The process ends here."""


@pytest.fixture
def cluster() -> SimulatedCluster:
    cluster = SimulatedCluster()
    cluster.create_topics(["events"])
    return cluster


async def started(cluster: SimulatedCluster) -> TransactionalProducer:
    producer = cluster.producer("p")
    await producer.start()
    return producer


async def produce(producer: TransactionalProducer, *values: bytes) -> None:
    batch = producer.new_batch()
    assert all(batch.append(None, value) for value in values)
    await producer.produce({LOG: batch})


def values(cluster: SimulatedCluster) -> list[bytes | None]:
    return [record.value for record in cluster.records(LOG)]


async def test_a_fault_before_the_commit_leaves_the_transaction_open(cluster: SimulatedCluster) -> None:
    producer = await started(cluster)
    await produce(producer, b"lost")
    cluster.fail_next("commit")
    with pytest.raises(KafkaConnectionError):
        await producer.commit()
    assert cluster.log(LOG).settled_end == 0
    with pytest.raises(IllegalTransition):
        await produce(producer, b"after")
    await started(cluster)
    assert (cluster.log(LOG).settled_end, values(cluster)) == (2, [])


async def test_a_lost_acknowledgement_of_a_commit_is_a_commit(cluster: SimulatedCluster) -> None:
    producer = await started(cluster)
    await produce(producer, b"kept")
    cluster.fail_next("commit", RequestTimedOutError(), lost_ack=True)
    with pytest.raises(RequestTimedOutError):
        await producer.commit()
    assert values(cluster) == [b"kept"]


async def test_faults_come_when_and_as_often_as_ordered(cluster: SimulatedCluster) -> None:
    cluster.fail_next("start", after=1, times=2)
    outcomes = []
    for _ in range(4):
        try:
            await started(cluster)
            outcomes.append("started")
        except KafkaConnectionError:
            outcomes.append("failed")
    assert outcomes == ["started", "failed", "failed", "started"]


async def test_a_refused_produce_cannot_be_committed(cluster: SimulatedCluster) -> None:
    producer = await started(cluster)
    cluster.fail_next("produce", lost_ack=True)
    with pytest.raises(KafkaConnectionError):
        await produce(producer, b"written, but who knows")
    with pytest.raises(RetryablePipelineError):
        await producer.commit()
    await producer.abort()
    assert values(cluster) == []


async def test_the_hook_hears_every_side_effect_and_can_crash_after_it(cluster: SimulatedCluster) -> None:
    effects: list[str] = []
    cluster.on_effect = effects.append
    producer = await started(cluster)
    await produce(producer, b"first")
    await producer.commit()
    await produce(producer, b"second")
    await producer.abort()
    assert effects == ["start", "produce", "commit", "produce", "abort"]

    def crash(name: str) -> None:
        raise Crash(name)

    await produce(producer, b"third")
    cluster.on_effect = crash
    with pytest.raises(Crash, match="commit"):
        await producer.commit()
    assert values(cluster) == [b"first", b"third"]


async def test_a_transaction_that_times_out_is_aborted_and_its_producer_fenced(cluster: SimulatedCluster) -> None:
    producer = await started(cluster)
    await produce(producer, b"too slow")
    cluster.time_out_transaction("p")
    with pytest.raises(ProducerFenced):
        await producer.commit()
    assert (cluster.log(LOG).settled_end, values(cluster)) == (2, [])


async def test_transactions_that_are_open_for_too_long_are_ended_by_the_coordinator() -> None:
    clock = SimulatedClock()
    cluster = SimulatedCluster(clock)
    cluster.create_topics(["events"])
    slow, quick = await started(cluster), cluster.producer("q")
    await quick.start()
    await produce(slow, b"too slow")
    clock.advance(5.0)
    await produce(quick, b"in time")
    assert cluster.time_out_transactions(5.0) == ["p"]
    await quick.commit()
    with pytest.raises(ProducerFenced):
        await slow.commit()
    assert values(cluster) == [b"in time"]


async def test_a_deposed_leader_tells_an_old_end_until_clients_find_the_new_one(cluster: SimulatedCluster) -> None:
    cluster.append(LOG, (b"a", b"1"))
    cluster.depose_leader(LOG, requests=2)
    cluster.append(LOG, (b"b", b"2"))
    async with cluster.reader() as reader:
        ends = [(await reader.bounds([LOG]))[LOG].end for _ in range(3)]
        assert ends == [1, 1, 2]
        cluster.depose_leader(LOG, requests=3)
        cluster.append(LOG, (b"c", b"3"))
        chunks = [chunk async for chunk in reader.read({LOG: 0}, {LOG: 3})]
    assert [r.value for chunk in chunks for r in chunk.records] == [b"1", b"2", b"3"]


async def test_old_tombstones_go_with_compaction_and_younger_ones_stay() -> None:
    clock = SimulatedClock()
    cluster = SimulatedCluster(clock)
    cluster.create_topics(["events"])
    cluster.append(LOG, (b"a", b"1"), (b"a", None))
    clock.advance(10.0)
    cluster.append(LOG, (b"b", b"1"), (b"b", None))
    cluster.log(LOG).compact(before_ms=clock.epoch_ms())
    assert [(r.key, r.value) for r in cluster.records(LOG)] == [(b"b", None)]
    assert [r.key for r, _ in cluster.log(LOG).decided()] == [b"a", b"a", b"b", b"b"]


async def test_compaction_keeps_the_newest_settled_record_of_a_key_at_its_offset(cluster: SimulatedCluster) -> None:
    cluster.append(LOG, (b"a", b"1"), (b"b", b"1"), (b"a", b"2"), (b"b", None))
    producer = await started(cluster)
    batch = producer.new_batch()
    assert batch.append(b"a", b"open")
    await producer.produce({LOG: batch})
    cluster.log(LOG).compact()
    assert [(r.offset, r.key, r.value) for r in cluster.records(LOG)] == [(2, b"a", b"2"), (3, b"b", None)]
    await producer.commit()
    cluster.log(LOG).compact(drop_tombstones=True)
    assert [(r.offset, r.value) for r in cluster.records(LOG)] == [(4, b"open")]
    async with cluster.reader() as reader:
        assert await reader.bounds([LOG]) == {LOG: LogBounds(0, 6)}
        chunks = [chunk async for chunk in reader.read({LOG: 0}, {LOG: 6})]
    assert chunks == [LogChunk(LOG, 0, cluster.records(LOG), 6)]


async def test_a_reader_that_cannot_reach_its_end_gives_up(cluster: SimulatedCluster) -> None:
    cluster.append(LOG, (b"a", b"1"))
    async with cluster.reader() as reader:
        with pytest.raises(RetryablePipelineError, match="events"):
            async for _ in reader.read({LOG: 0}, {LOG: 2}):
                pass


async def test_retention_moves_the_begin(cluster: SimulatedCluster) -> None:
    cluster.append(LOG, *((None, b"%d" % n) for n in range(5)))
    cluster.log(LOG).delete_before(3)
    async with cluster.reader() as reader:
        assert await reader.bounds([LOG]) == {LOG: LogBounds(3, 5)}
        with pytest.raises(RetryablePipelineError, match="no longer"):
            async for _ in reader.read({LOG: 0}, {LOG: 5}):
                pass
    assert values(cluster) == [b"3", b"4"]


async def test_marks_come_later_where_they_are_told_to() -> None:
    cluster = SimulatedCluster(marks_after_requests=2)
    cluster.create_topics(["events"])
    producer = await started(cluster)
    await produce(producer, b"committed")
    await producer.commit()
    ends = []
    async with cluster.reader() as reader:
        for _ in range(3):
            ends.append((await reader.bounds([LOG]))[LOG].end)
    assert ends == [0, 2, 2]
    await produce(producer, b"second")
    await producer.commit()
    await produce(producer, b"third")
    assert values(cluster) == [b"committed", b"second"], "nobody goes on before the marks of the last transaction"


async def test_marks_can_wait_for_somebody_to_write_them() -> None:
    cluster = SimulatedCluster()
    marks: list[Callable[[], None]] = []
    cluster.create_topics(["events"])
    cluster.mark_later = marks.append
    grown: list[str] = []
    cluster.on_change = lambda log: grown.append(log.topic)
    producer = await started(cluster)
    await produce(producer, b"committed")
    await producer.commit()
    log = cluster.log(LOG)
    assert (log.settled_end, log.last_settled, log.undecided_before(1), grown) == (0, -1, False, [])
    assert [record.value for record, _ in log.decided()] == [b"committed"]
    for mark in marks:
        mark()
    assert (log.settled_end, log.last_settled, grown, cluster.open_transactions) == (2, 0, ["events"], 0)


async def test_a_topic_can_be_deleted_under_a_transaction(cluster: SimulatedCluster) -> None:
    producer = await started(cluster)
    await produce(producer, b"gone")
    cluster.delete_topic("events")
    cluster.create_topics(["events"])
    await producer.commit()
    assert cluster.log(LOG).end == 0


async def test_a_source_delivers_batches_that_know_their_places(cluster: SimulatedCluster) -> None:
    source = SimulatedSource(cluster, [LOG], batch_records_max=2)
    assert source.idle
    cluster.append(LOG, *((None, b"%d" % n) for n in range(3)))
    epoch = await source.seek(LOG, 0)
    batches = [*source.fetch_all(), *source.fetch_all(), *source.fetch_all()]
    assert [(b.start, b.end, b.epoch, len(b.records)) for b in batches] == [(0, 2, epoch, 2), (2, 3, epoch, 1)]
    assert source.idle
    again = await source.seek(LOG, 1)
    assert again != epoch
    batch = source.fetch(LOG)
    assert batch is not None
    assert (batch.start, batch.end, batch.epoch) == (1, 3, again)
    source.jump(LOG, 2)
    assert [b.start for b in source.fetch_all()] == [2]


async def test_a_source_never_delivers_what_is_not_settled(cluster: SimulatedCluster) -> None:
    source, producer = SimulatedSource(cluster, [LOG]), await started(cluster)
    await produce(producer, b"open")
    assert source.fetch(LOG) is None
    await producer.abort()
    batch = source.fetch(LOG)
    assert batch is not None
    assert (batch.start, batch.end, list(batch.records)) == (0, 2, [])


async def test_a_source_goes_on_at_the_begin_where_its_position_was_deleted(cluster: SimulatedCluster) -> None:
    source = SimulatedSource(cluster, [LOG])
    cluster.append(LOG, *((None, b"%d" % n) for n in range(5)))
    cluster.log(LOG).delete_before(3)
    assert [(b.start, b.end) for b in source.fetch_all()] == [(3, 5)]


async def test_time_moves_only_when_it_is_told_to() -> None:
    clock, woken = SimulatedClock(), []

    async def sleeper(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(seconds)

    tasks = [asyncio.create_task(sleeper(seconds)) for seconds in (3.0, 1.0, 2.0)]
    await asyncio.sleep(0)
    before = clock.epoch_ms()
    clock.advance(2.5)
    await asyncio.gather(*tasks[1:])
    assert woken == [1.0, 2.0]
    assert (clock.monotonic(), clock.epoch_ms() - before) == (2.5, 2_500)
    clock.advance(0.5)
    await tasks[0]


async def test_a_running_clock_is_moved_by_whoever_sleeps() -> None:
    clock = SimulatedClock(runs=True)
    await clock.sleep(1.5)
    assert clock.monotonic() == 1.5
