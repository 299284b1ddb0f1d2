"""Whatever lies in a topic: it is decoded or refused, kept whole where it is refused, and the next record goes on."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.buses import event as bus_event
from app.catalogue import CATALOGUE
from app.kernel.errors import UndecodableMessage
from app.runtime.batch import Decode
from app.runtime.directory import Directory
from app.runtime.generations import Generations
from app.runtime.ports import TopicPartition
from app.runtime.simulated.log import SimulatedRecord
from app.runtime.topics import partition_of
from app.schema.topics import describe
from tests.property.bad_input import ODD, encode, garbage, golden, places, put, spoilt
from tests.property.lives import PARTITIONS, SETTINGS, TOPICS, Town

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")
"""Some of what comes in is large: that is the point."""

DECODERS: dict[str, Decode] = {
    topic: agent.decode_of(topic) for agent in CATALOGUE.agents(SETTINGS) for topic in agent.sources
}
CARRIED = {topic.topic.name: sorted(topic.types) for topic in describe(CATALOGUE, SETTINGS)}
KEYS = st.none() | st.binary(max_size=20) | st.sampled_from([b"order-1", b"product-1", b"customer-1", b"\xff", b""])


@dataclass(frozen=True)
class Sent:
    """One record on its way into a topic."""

    topic: str
    key: bytes | None
    value: bytes | None


def record(sent: Sent) -> SimulatedRecord:
    partition = partition_of(sent.key or b"", PARTITIONS)
    return SimulatedRecord(sent.topic, partition, 0, sent.key, sent.value, 0, ())


def anything(topic: str) -> st.SearchStrategy[bytes | None]:
    """What may lie in a topic: garbage, or what was a record of one of its messages."""
    carried = CARRIED[topic] or sorted(CARRIED["orders.events"])
    ticks = st.sampled_from([b'{"time":"2026-01-01T00:00:00Z"}', b'{"time":"2026-01-01T00:00:00"}', b'{"time":1}'])
    return spoilt(carried) | garbage() | (ticks if topic.endswith(".ticks") else st.nothing())


@pytest.mark.parametrize("topic", sorted(DECODERS))
def test_a_decoder_refuses_and_does_nothing_else(topic: str) -> None:
    @settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
    @given(KEYS, anything(topic))
    def check(key: bytes | None, value: bytes | None) -> None:
        with suppress(UndecodableMessage):
            DECODERS[topic](record(Sent(topic, key, value)))

    check()


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(garbage() | spoilt(sorted(CARRIED["orders.events"])))
def test_a_bus_refuses_and_does_nothing_else(value: bytes | None) -> None:
    with suppress(UndecodableMessage):
        bus_event.decode(value or b"")


ENTRY = {"url": "u", "worker": "w", "role": "all", "bucket": 0, "buckets": 2, "agents": ["a"], "opened_ms": 1}


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(KEYS, garbage() | st.sampled_from([ENTRY | {"buckets": 0}, ENTRY | {"agents": 1}, ENTRY]).map(encode))
def test_the_directory_passes_by_what_is_no_entry(key: bytes | None, value: bytes | None) -> None:
    directory = Directory(SETTINGS, TOPICS)
    directory._note(key, value)
    directory.owner("a", 1)
    assert directory.entries() is not None


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(KEYS, garbage() | st.sampled_from([{"live": 0}, {"live": "1"}, {"building": -1}, {"live": 2}]).map(encode))
def test_generations_pass_by_what_is_no_standing(key: bytes | None, value: bytes | None) -> None:
    generations = Generations(TOPICS)
    generations._note(key, value)
    assert all(standing.live >= 1 for standing in generations.standings.values())


def dead_letters(town: Town) -> list[SimulatedRecord]:
    return [
        letter
        for topic in town.topics
        if topic.name.endswith(".deadletters")
        for number in range(PARTITIONS)
        for letter in town.cluster.records(TopicPartition(topic.name, number))
    ]


VALID = {**golden("order.create.v1"), "id": "valid", "subject": "valid"}
VALID = {**VALID, "data": {**VALID["data"], "order_id": "valid", "fulfil": False}}
COMMAND_TOPICS = [topic for topic in sorted(DECODERS) if topic.endswith(".commands")]

bad = st.sampled_from(sorted(DECODERS)).flatmap(lambda topic: st.builds(Sent, st.just(topic), KEYS, anything(topic)))
bad_commands = st.sampled_from(COMMAND_TOPICS).flatmap(
    lambda topic: spoilt(CARRIED[topic]).map(lambda raw: Sent(topic, key_of(raw), raw))
)


def key_of(raw: bytes) -> bytes:
    """The key that the record should have, where it still says so."""
    try:
        subject = json.loads(raw)["subject"]
        return subject.encode(errors="surrogatepass") if isinstance(subject, str) else b""
    except (ValueError, LookupError, TypeError, RecursionError):
        return b""


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(bad | bad_commands, min_size=1, max_size=12))
def test_bad_records_are_kept_whole_and_the_next_ones_are_handled(sent: Sequence[Sent]) -> None:
    async def run() -> Town:
        town = Town(CATALOGUE.agents(SETTINGS), CATALOGUE.topics(SETTINGS))
        for one in sent:
            at = partition_of(one.key or b"", PARTITIONS)
            town.cluster.append(TopicPartition(one.topic, at), (one.key, one.value))
        town.send(TOPICS.commands("orders"), [("valid", encode(VALID))])
        await town.live()
        return town

    town = asyncio.run(run())
    row = town.stores("projecting-orders", partition_of("valid", PARTITIONS)).get(b"orders\x00valid")
    assert row is not None
    values = {one.value for one in sent}
    for letter in dead_letters(town):
        headers = dict(letter.headers)
        assert letter.value in values, "it is not as it was"
        if headers["source-topic"].decode() in COMMAND_TOPICS:
            assert headers["cause"] != b"raised", headers["cause-detail"]


BEFORE = ("order.create.v1", "inventory.stock.v1", "customer.register.v1")
"""What is there already when the odd commands come."""


def odd_commands() -> Iterator[Sent]:
    """Every command with every odd value in every place: for a stream that is there, and for a new one."""
    for topic in COMMAND_TOPICS:
        for name in CARRIED[topic]:
            record = golden(name)
            first = next(iter(record["data"]))
            for place in places(record):
                for number, odd in enumerate(ODD):
                    id_ = f"{name}:{'.'.join(map(str, place))}:{number}"
                    for stream in (record["subject"], id_):
                        valid = {**record, "id": id_ + stream, "subject": stream}
                        valid["data"] = {**record["data"], first: stream}
                        raw = encode(put(valid, place, odd))
                        yield Sent(topic, key_of(raw), raw)


def test_no_odd_value_in_a_command_stops_anything() -> None:
    """What is accepted is handled by every agent, what is not is refused: nothing is parked, nor sent on in vain."""
    topic_of = {name: topic for topic in COMMAND_TOPICS for name in CARRIED[topic]}
    before = [Sent(topic_of[name], golden(name)["subject"].encode(), encode(golden(name))) for name in BEFORE]
    sent = [*before, *odd_commands()]

    async def run() -> Town:
        town = Town(CATALOGUE.agents(SETTINGS), CATALOGUE.topics(SETTINGS))
        for one in sent:
            at = partition_of(one.key or b"", PARTITIONS)
            town.cluster.append(TopicPartition(one.topic, at), (one.key, one.value))
        await town.live()
        return town

    town = asyncio.run(run())
    causes = Counter((dict(one.headers)["agent"], dict(one.headers)["cause"]) for one in dead_letters(town))
    assert {cause for _, cause in causes} == {b"undecodable"}, [
        (dict(one.headers)["cause-detail"], (one.value or b"")[:400])
        for one in dead_letters(town)
        if dict(one.headers)["cause"] != b"undecodable"
    ][:5]
    values = {one.value for one in sent}
    assert all(one.value in values for one in dead_letters(town)), "a chain has sent what nobody can decode"
    assert {agent for agent, _ in causes} == {b"deciding-customers", b"deciding-inventory", b"deciding-orders"}
    events = [r for n in range(PARTITIONS) for r in town.cluster.records(TopicPartition("orders.events", n))]
    assert len(events) > 100, "most of it was odd, not all"
