"""Topics are made once, as they were declared, and never with another number of partitions."""

from __future__ import annotations

import uuid

import pytest

from app.kernel.errors import BrokerUnavailable, ConfigurationRefused
from app.local.kafka import LocalKafka
from app.runtime.kafka.admin import delete_topics, ensure_topics, list_topics
from app.runtime.kafka.topic_configs import Difference, differences
from app.runtime.topics import A_WEEK, BY_THE_BROKERS_CLOCK, COMPACTED, Topic

NOBODY = "127.0.0.1:1"
"""A port that nothing listens on."""


@pytest.fixture
def name() -> str:
    return f"made.{uuid.uuid4().hex[:8]}"


async def test_topics_are_made_once(kafka: LocalKafka, name: str) -> None:
    topics = [Topic(name), Topic(f"{name}.one", COMPACTED, partitions=1), Topic(name)]
    assert sorted(await ensure_topics(kafka.brokers, topics, 3, 1)) == [name, f"{name}.one"]
    assert await ensure_topics(kafka.brokers, topics, 3, 1) == []
    found = await list_topics(kafka.brokers)
    assert (found[name], found[f"{name}.one"]) == (3, 1)
    await delete_topics(kafka.brokers, [name, f"{name}.one", "never.made"])
    assert not found.keys() & {name} & (await list_topics(kafka.brokers)).keys()


async def test_settings_that_are_not_as_declared_are_told(kafka: LocalKafka, name: str) -> None:
    await ensure_topics(kafka.brokers, [Topic(name, A_WEEK), Topic(f"{name}.one", COMPACTED)], 1, 1)
    wanted = [Topic(name, A_WEEK | BY_THE_BROKERS_CLOCK), Topic(f"{name}.one", COMPACTED), Topic("never.made", A_WEEK)]
    found = await differences(kafka.brokers, wanted, 1)
    assert found == [Difference(name, "message.timestamp.type", "CreateTime", "LogAppendTime")]
    assert f"--entity-name {name} --add-config message.timestamp.type=LogAppendTime" in str(found[0])


async def test_another_number_of_partitions_is_refused(kafka: LocalKafka, name: str) -> None:
    await ensure_topics(kafka.brokers, [Topic(name)], 3, 1)
    with pytest.raises(ConfigurationRefused, match=f"{name} has 3 and not 4.*FLEET_PARTITIONS"):
        await ensure_topics(kafka.brokers, [Topic(name)], 4, 1)


async def test_more_replicas_than_brokers_are_refused(kafka: LocalKafka, name: str) -> None:
    with pytest.raises(ConfigurationRefused, match="FLEET_REPLICATION"):
        await ensure_topics(kafka.brokers, [Topic(name)], 1, 7)


async def test_a_configuration_that_brokers_do_not_know_is_refused(kafka: LocalKafka, name: str) -> None:
    with pytest.raises(ConfigurationRefused, match="nonsense"):
        await ensure_topics(kafka.brokers, [Topic(name, {"cleanup.policy": "nonsense"})], 1, 1)


async def test_brokers_that_do_not_answer_are_named(name: str) -> None:
    with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:1 .*FLEET_BROKERS"):
        await ensure_topics(NOBODY, [Topic(name)], 1, 1, timeout_s=0.3)
