"""How topics that exist are kept, beside how they should be: they may be older than this release, or not ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import NoError, UnknownTopicOrPartitionError, for_code

from app.runtime.kafka.admin import durable, patient_admin
from app.runtime.topics import Topic, same_names


class Difference(NamedTuple):
    """One setting of one topic that is not as it was declared."""

    topic: str
    setting: str
    found: str | None
    wanted: str

    def __str__(self) -> str:
        return (
            f"{self.topic} has {self.setting}={self.found} and should have {self.wanted}: kafka-configs.sh --alter "
            f"--entity-type topics --entity-name {self.topic} --add-config {self.setting}={self.wanted}"
        )


async def differences(
    brokers: str, topics: Sequence[Topic], replication: int, *, timeout_s: float = 30.0
) -> list[Difference]:
    """The settings of `topics` that differ from what was declared; topics that there are not have none.

    They are told and not mended: an operator may mean it so.
    """
    wanted = {topic.name: topic.config | durable(replication) for topic in same_names(topics)}

    async def step(admin: Any) -> list[Difference]:
        asked = [
            ConfigResource(ConfigResourceType.TOPIC, name, configs=dict(config)) for name, config in wanted.items()
        ]
        found: list[Difference] = []
        for response in await admin.describe_configs(asked):
            for code, _, _, name, entries in response.resources:
                error = for_code(code)
                if error is UnknownTopicOrPartitionError:
                    continue
                if error is not NoError:
                    raise error(name)
                has = {entry[0]: entry[1] for entry in entries}
                found += [
                    Difference(name, setting, has.get(setting), value)
                    for setting, value in wanted[name].items()
                    if has.get(setting) != value
                ]
        return sorted(found)

    async with patient_admin(brokers, timeout_s) as patiently:
        return await patiently(step)
