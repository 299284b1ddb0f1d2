"""What may be relied on of every bus: in memory, over a real redis-server, over a real broker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition as KafkaTopicPartition

import app.buses.delivery
import app.buses.event
from app.buses.event import BusEvent
from app.buses.kafka import KafkaBus, dead_letters_of
from app.buses.redis import RedisBus
from app.kernel.errors import BusUnavailable, IllegalTransition
from app.local.ports import free_ports
from tests.contract.buses import PARTITIONS, Ear, InMemory, OnKafka, OnRedis, TestedBus, event, events, until, whole
from tests.redis_server import RedisServer

EVERY = ["memory, parallel", "memory, sequential", "redis", "kafka"]


@pytest.fixture
async def tested(request: pytest.FixtureRequest, topic_prefix: str) -> AsyncIterator[TestedBus]:
    kind = getattr(request, "param", None) or request.node.get_closest_marker("bus").args[0]
    made: TestedBus
    match kind:
        case "redis":
            made = OnRedis(request.getfixturevalue("redis_server").url, f"{topic_prefix}bus")
        case "kafka":
            made = OnKafka(request.getfixturevalue("kafka").brokers, f"{topic_prefix}bus")
            await made.make_topics()
        case _:
            made = InMemory(sequential="sequential" in kind)
    yield made
    await made.close()


on_every_bus = pytest.mark.parametrize("tested", EVERY, indirect=True)


@on_every_bus
async def test_everybody_hears_what_they_asked_for(tested: TestedBus) -> None:
    everything, created, both = Ear(), Ear(), Ear()
    bus = tested.bus()
    bus.subscribe(everything)
    bus.subscribe(created, ["order.created.v1"])
    bus.subscribe(both, ["order.created.v1", "order.shipped.v1"])
    await tested.listen(bus)
    await bus.publish(event("1"), event("2", type_="order.paid.v1"), event("3", type_="order.shipped.v1"))
    await until(lambda: len(everything.heard) == 3)
    await until(lambda: len(created.heard) + len(both.heard) == 3)
    assert (everything.ids, created.ids, both.ids) == (["1", "2", "3"], ["1"], ["1", "3"])
    assert bus.stats.published == 3
    await until(lambda: bus.stats.handled == 6)


@on_every_bus
async def test_thin_and_whole_events_arrive_as_they_were(tested: TestedBus) -> None:
    ear = Ear()
    bus = await tested.started(ear)
    sent = [event("thin", version=3), whole("whole"), event("Grüße", "größte", version=None, source="/elsewhere")]
    await bus.publish(*sent)
    await until(lambda: len(ear.heard) == 3)

    def told(one: BusEvent) -> tuple[object, ...]:
        data = None if one.data is None else bytes(one.data)
        return one.id, one.type, one.stream_id, one.time, one.version, data, one.source

    assert {told(one) for one in ear.heard} == {told(one) for one in sent}


@on_every_bus
async def test_events_of_a_stream_are_handled_one_after_the_other_and_streams_side_by_side(tested: TestedBus) -> None:
    ear = Ear(pause_s=0.01)
    bus = await tested.started(ear)
    sent = events(24, "a", "b", "c")
    for first in range(0, 24, 6):
        await bus.publish(*sent[first : first + 6])
    await until(lambda: len(ear.heard) == 24)
    for stream in "abc":
        assert ear.ids_of(stream) == [one.id for one in sent if one.stream_id == stream]
    if isinstance(tested, InMemory) and tested.sequential:
        assert (ear.at_once_most, ear.ids) == (1, [one.id for one in sent])
    else:
        assert 1 < ear.at_once_most <= 3


@on_every_bus
async def test_a_sequence_is_handled_in_order_whatever_its_streams(tested: TestedBus) -> None:
    ear = Ear(pause_s=0.001)
    bus = await tested.started(ear)
    sent = events(30, *"abcdefghij")
    await bus.publish_in_sequence(sent[:20])
    await bus.publish_in_sequence(sent[20:], key="a")
    await bus.publish_in_sequence([])
    await until(lambda: len(ear.heard) == 30)
    assert ear.ids == [one.id for one in sent]
    assert ear.at_once_most == 1


@on_every_bus
async def test_a_failing_handler_is_reported_and_everything_else_goes_on(tested: TestedBus) -> None:
    broken, whole_one = Ear(broken_for="001"), Ear()
    bus = await tested.started(broken, whole_one)
    await bus.publish(*events(3, "a"))
    await until(lambda: len(broken.heard) == 2 and len(whole_one.heard) == 3)
    assert (broken.ids, whole_one.ids) == (["000", "002"], ["000", "001", "002"])
    (failure,) = tested.failures
    assert (failure.event.id, str(failure.error)) == ("001", "cannot bear 001")
    assert "Ear" in failure.subscription
    await until(lambda: bus.stats.handled == 5)
    assert bus.stats.failed == 1


@on_every_bus
@pytest.mark.parametrize("group", [None, "one"])
async def test_a_report_that_fails_stops_nothing(tested: TestedBus, group: str | None) -> None:
    broken = Ear(broken_for="001")
    bus = await tested.started(broken, group=group)
    tested.report_fails = True
    await bus.publish(*events(6, "a", "b"))
    await until(lambda: len(broken.heard) == 5)
    assert broken.ids_of("b") == ["003", "005"]
    assert [failure.event.id for failure in tested.failures] == ["001"]


@on_every_bus
async def test_a_handler_that_never_ends_is_ended_and_reported(
    tested: TestedBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.buses.delivery, "HANDLER_TIMEOUT_S", 0.2)
    stuck = Ear()
    stuck.open.clear()
    bus = await tested.started(stuck)
    await bus.publish(event("1"))
    await until(lambda: len(tested.failures) == 1)
    assert isinstance(tested.failures[0].error, TimeoutError)
    stuck.open.set()
    await bus.publish(event("2"))
    await until(lambda: stuck.ids == ["2"])


@on_every_bus
async def test_publishing_does_not_wait_for_handlers(tested: TestedBus) -> None:
    ear = Ear()
    ear.open.clear()
    bus = await tested.started(ear)
    await bus.publish(*events(5, "a"))
    await until(lambda: ear.at_once == 1)
    assert ear.heard == []
    ear.open.set()
    await until(lambda: len(ear.heard) == 5)


@on_every_bus
async def test_a_group_shares_events_and_keeps_a_streams_order(tested: TestedBus) -> None:
    ears = [Ear(pause_s=0.001), Ear(pause_s=0.001)]
    alone = Ear()
    if tested.reaches_others:
        buses = [tested.bus(), tested.bus()]
        for bus, ear in zip(buses, ears, strict=True):
            bus.subscribe(ear, group="g")
        buses[0].subscribe(alone)
    else:
        buses = [tested.bus()]
        for ear in ears:
            buses[0].subscribe(ear, group="g")
        buses[0].subscribe(alone)
    await tested.listen(*buses)
    sent = events(60, *"abcdefghijkl")
    for first in range(0, 60, 12):
        await buses[0].publish(*sent[first : first + 12])
    await until(lambda: sum(len(ear.heard) for ear in ears) >= 60 and len(alone.heard) == 60)
    assert sorted(ears[0].ids + ears[1].ids) == [one.id for one in sent]
    assert all(ear.heard for ear in ears), "one had all the work"
    for stream in "abcdefghijkl":
        wanted = [one.id for one in sent if one.stream_id == stream]
        assert [ear.ids_of(stream) for ear in ears if ear.ids_of(stream)] == [wanted]


@on_every_bus
async def test_who_cannot_keep_up_loses_the_oldest_or_falls_behind(tested: TestedBus) -> None:
    ear = Ear()
    ear.open.clear()
    bus = await tested.started(ear, waiting_max=10)
    sent = events(31, "a")
    await bus.publish(sent[0])
    await until(lambda: ear.at_once == 1)
    await bus.publish(*sent[1:])
    if tested.keeps_what_waits:
        ear.open.set()
        await until(lambda: len(ear.heard) == 31)
        assert (ear.ids, bus.stats.dropped) == ([one.id for one in sent], 0)
    else:
        await until(lambda: bus.stats.dropped == 20)
        ear.open.set()
        await until(lambda: len(ear.heard) == 11)
        assert ear.ids == ["000", *(one.id for one in sent[21:])]


@on_every_bus
async def test_stopping_lets_what_runs_come_to_its_end(tested: TestedBus) -> None:
    ear = Ear(pause_s=0.2)
    bus = await tested.started(ear)
    await bus.publish(event("1"))
    await until(lambda: ear.at_once == 1)
    await bus.stop()
    assert ear.ids == ["1"]
    assert not bus.listening
    await bus.stop()


@on_every_bus
async def test_the_order_of_its_life_is_kept(tested: TestedBus) -> None:
    bus = tested.bus()
    with pytest.raises(IllegalTransition):
        await bus.publish(event("1"))
    bus.subscribe(Ear())
    await tested.listen(bus)
    with pytest.raises(IllegalTransition):
        bus.subscribe(Ear())
    with pytest.raises(IllegalTransition):
        await bus.start()
    await bus.stop()
    with pytest.raises(IllegalTransition):
        await bus.publish(event("1"))


@pytest.mark.parametrize("tested", ["redis", "kafka"], indirect=True)
async def test_other_processes_are_reached(tested: TestedBus) -> None:
    ear = Ear()
    await tested.started(ear)
    other = tested.bus()
    await other.start()
    await other.publish(event("1"))
    await until(lambda: ear.ids == ["1"])


@pytest.mark.parametrize("kind", ["redis", "kafka"])
async def test_nobody_there_holds_up_neither_start_nor_stop(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_ports(1)
    module = f"app.buses.{kind}.PUBLISH_TIMEOUT_S"
    monkeypatch.setattr(module, 0.5)
    bus = RedisBus(f"redis://127.0.0.1:{port}/0", "c") if kind == "redis" else KafkaBus(f"127.0.0.1:{port}", "t")
    bus.subscribe(Ear())
    started = time.monotonic()
    await bus.start()
    assert time.monotonic() - started < 1.0
    with pytest.raises(BusUnavailable):
        await bus.publish(event("1"))
    assert not bus.listening
    await bus.stop()
    assert time.monotonic() - started < 10.0


# Redis: it goes away, and comes back


@pytest.mark.bus("kafka")
async def test_kafka_takes_events_again_where_a_leader_has_lost_some(tested: TestedBus) -> None:
    """A deposed leader loses what no other replica had: the producer's sequence has a hole, for ever."""
    ear = Ear()
    bus = await tested.started(ear)
    assert isinstance(bus, KafkaBus)
    await bus.publish(event("before"))
    for number in range(PARTITIONS):
        assert bus._producer.present is not None
        bus._producer.present._txn_manager.increment_sequence_number(KafkaTopicPartition(bus._topic, number), 3)
    with pytest.raises(BusUnavailable, match="OutOfOrderSequence"):
        await bus.publish(event("lost"))
    await bus.publish(event("after"))
    await until(lambda: ear.ids == ["before", "after"])


@pytest.mark.parametrize(
    ("tested", "decode"),
    [("redis", "app.buses.redis.decode"), ("kafka", "app.buses.kafka_hearing.decode")],
    indirect=["tested"],
)
async def test_an_error_that_nobody_expects_is_told_and_lived_through(
    tested: TestedBus, decode: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ear, failures = Ear(), ["a bug"]

    def once(raw: bytes) -> BusEvent:
        if failures:
            raise ZeroDivisionError(failures.pop())
        return app.buses.event.decode(raw)

    bus = await tested.started(ear)
    monkeypatch.setattr(decode, once)
    await bus.publish(event("lost"))
    await until(lambda: not failures and not bus.listening)
    await until(lambda: bus.listening)
    await bus.publish(event("heard"))
    await until(lambda: "heard" in ear.ids)
    assert "ZeroDivisionError: a bug" in caplog.text


@pytest.mark.bus("redis")
async def test_redis_is_killed_and_started_again(tested: TestedBus, redis_server: RedisServer) -> None:
    ear, member = Ear(), Ear()
    bus = tested.bus()
    bus.subscribe(ear)
    bus.subscribe(member, group="g")
    await tested.listen(bus)
    await bus.publish(event("before"))
    await until(lambda: ear.ids == ["before"] == member.ids)
    for number in range(2):
        redis_server.kill()
        await until(lambda: not bus.listening)
        with pytest.raises(BusUnavailable):
            await bus.publish(event("during"))
        redis_server.start()
        await until(lambda: bus.listening)
        await bus.publish(event(f"after {number}"))
        await until(lambda: ear.ids[-1] == f"after {number}" == member.ids[-1])  # noqa: B023 - awaited at once
    assert "during" not in ear.ids
    assert bus.stats.reconnects == 2


@pytest.mark.bus("redis")
async def test_redis_that_hangs_is_noticed(tested: TestedBus, redis_server: RedisServer) -> None:
    ear = Ear()
    bus = await tested.started(ear)
    redis_server.hang()
    try:
        await until(lambda: not bus.listening)
    finally:
        redis_server.wake()
    await until(lambda: bus.listening)
    await bus.publish(event("after"))
    await until(lambda: ear.ids == ["after"])


@pytest.mark.bus("redis")
async def test_what_a_dead_member_had_claimed_goes_to_another(
    tested: TestedBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.buses.redis.CLAIM_S", 0.3)
    first, second = Ear(), Ear()
    dying = await tested.started(first, group="g")
    await dying.publish(event("1"))
    await until(lambda: first.ids == ["1"])
    living = await tested.started(second, group="g")
    await dying.stop()

    async def heard(number: int = 2) -> None:
        while not second.heard:
            await living.publish(event(str(number := number + 1)))
            await asyncio.sleep(0.05)

    await asyncio.wait_for(heard(), 10)
    assert first.ids == ["1"]


# Kafka: committed after the handler


@pytest.mark.bus("kafka")
async def test_kafka_keeps_what_a_group_could_not_handle(tested: TestedBus) -> None:
    assert isinstance(tested, OnKafka)
    ear = Ear(broken_for="001")
    bus = await tested.started(ear, group="g")
    await bus.publish(*events(3, "a"))
    await until(lambda: ear.ids == ["000", "002"])
    assert (ear.calls, tested.failures[0].attempts, bus.stats.dead_lettered) == (5, 3, 1)
    reader = AIOKafkaConsumer(
        dead_letters_of(tested.topic), bootstrap_servers=tested.brokers, auto_offset_reset="earliest", group_id=None
    )
    await reader.start()
    try:
        letter = await asyncio.wait_for(reader.getone(), 10)
    finally:
        await reader.stop()
    headers = dict(letter.headers)
    assert letter.key == b"a"
    assert letter.value is not None
    assert b'"id":"001"' in letter.value
    assert (headers["cause"], headers["cause-detail"]) == (b"raised", b"ValueError: cannot bear 001")
    assert headers["source-topic"] == tested.topic.encode()


@pytest.mark.bus("kafka")
async def test_kafka_repeats_what_was_not_handled_to_its_end(
    tested: TestedBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.buses.kafka_hearing.STOP_TIMEOUT_S", 0.1)
    dying = Ear()
    bus = await tested.started(dying, group="g")
    await bus.publish(event("1", "a"))
    await until(lambda: dying.ids == ["1"])
    dying.open.clear()
    await bus.publish(*events(3, "a"))
    await until(lambda: dying.at_once == 1)
    await bus.stop()  # it is cut off in the midst of its handler
    heir = Ear()
    await tested.started(heir, group="g")
    await until(lambda: len(heir.heard) == 3)
    assert heir.ids == ["000", "001", "002"]
