"""What lies in topics in an old version is handled by every agent as if it were the newest."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from app.catalogue import CATALOGUE
from app.domain.customer import CUSTOMER, Channel, CustomerRegistered
from app.runtime.codec import Codec
from app.runtime.ports import TopicPartition
from app.runtime.topics import partition_of
from tables.event_store import EventStore
from tests.golden.keeping import DIRECTORY
from tests.property.lives import PARTITIONS, SETTINGS, TOPICS, Town

OLD = [
    (topic, old)
    for aggregate in CATALOGUE.aggregates
    for topic, codec in (
        (TOPICS.commands(aggregate.category), Codec.of_commands(aggregate)),
        (TOPICS.events(aggregate.category), Codec.of_events(aggregate)),
    )
    for old in codec.upcast
]


def golden(name: str) -> dict[str, Any]:
    """The golden record, as the first of its stream."""
    record: dict[str, Any] = json.loads((DIRECTORY / f"{name}.json").read_bytes())
    return {**record, "version": 1}


def dead_letters(town: Town) -> list[tuple[str, bytes | None]]:
    return [
        (partition.topic, record.value)
        for topic in town.topics
        if topic.name.endswith(".deadletters")
        for partition in (TopicPartition(topic.name, number) for number in range(PARTITIONS))
        for record in town.cluster.records(partition)
    ]


@pytest.mark.parametrize(("topic", "old"), OLD, ids=[old for _, old in OLD])
async def test_old_versions_are_handled_by_every_agent(topic: str, old: str) -> None:
    record = golden(old)
    town = Town(CATALOGUE.agents(SETTINGS), CATALOGUE.topics(SETTINGS))
    town.send(topic, [(record["subject"], msgspec.json.encode(record))])
    await town.live()
    assert dead_letters(town) == []


async def test_a_history_is_told_in_the_newest_versions() -> None:
    record = golden("customer.registered.v1")
    town = Town(CATALOGUE.agents(SETTINGS), CATALOGUE.topics(SETTINGS))
    town.send(TOPICS.events("customers"), [(record["subject"], msgspec.json.encode(record))])
    await town.live()
    index = town.stores("indexing-customers", partition_of(record["subject"], PARTITIONS))
    store = EventStore(CUSTOMER, index, Codec.of_events(CUSTOMER))
    (told,) = store.history(record["subject"])
    assert told.message == CustomerRegistered("customer-1", "Ada Lovelace", "ada@example.org", Channel.UNKNOWN)
    ((_, as_it_lies),) = store.records(record["subject"])
    assert json.loads(as_it_lies) == record
