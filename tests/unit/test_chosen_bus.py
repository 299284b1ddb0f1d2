"""The bus that the settings name."""

from __future__ import annotations

import pytest

from app.buses.chosen import make_bus
from app.buses.kafka import KafkaBus, dead_letters_of
from app.buses.memory import MemoryBus
from app.buses.redis import RedisBus
from app.kernel.errors import ConfigurationRefused
from app.runtime.settings import Settings, load_settings
from app.runtime.topics import Topics


@pytest.mark.parametrize(("bus", "kind"), [("memory", MemoryBus), ("redis", RedisBus), ("kafka", KafkaBus)])
async def test_each_kind_can_be_chosen(bus: str, kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_BUS", bus)
    assert type(make_bus(load_settings())) is kind


async def test_workers_of_one_machine_hear_each_other_by_default() -> None:
    assert isinstance(make_bus(Settings()), KafkaBus)


@pytest.mark.parametrize(("variable", "value"), [("FLEET_BUS", "pigeon"), ("FLEET_REDIS_URL", "127.0.0.1:6379")])
def test_a_wrong_choice_is_refused_by_name(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationRefused, match=variable):
        load_settings()


def test_the_topics_are_those_that_the_bus_uses() -> None:
    topics = Topics("p.")
    assert [topic.name for topic in topics.of_bus()] == [topics.notifications, dead_letters_of(topics.notifications)]
