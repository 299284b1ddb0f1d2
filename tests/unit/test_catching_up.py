"""An agent that is far behind reads for itself, and joins the others when it is near."""

from __future__ import annotations

import logging

import pytest

from app.runtime.agent import Agent
from app.runtime.ports import Record, TopicPartition
from app.runtime.table import Table
from app.runtime.topics import Topic
from app.runtime.unit import UnitOfWork
from tests.property.lives import PARTITIONS, SETTINGS, TOPICS, Town

FAR = 50
RECORDS = 400


def counting(name: str) -> Agent:
    counts: Table[int] = Table("counts", int)

    def count(unit: UnitOfWork, record: Record, _: object) -> None:
        unit.put(counts, record.key or b"", (unit.get(counts, record.key or b"") or 0) + 1)

    return Agent(name, ("in",), value_of, count, (counts,), ahead=counts)


def value_of(record: Record) -> object:
    return record.value


def town(*names: str) -> Town:
    own = [topic for name in names for topic in TOPICS.of_agent(name, logged=True)]
    settings = SETTINGS.model_copy(update={"catch_up_records": FAR})
    return Town([counting(names[0])], [Topic("in"), *own], settings)


async def test_a_new_agent_catches_up_beside_the_others(caplog: pytest.LogCaptureFixture) -> None:
    made = town("old", "new")
    made.send("in", [(f"k{n % 7}", b"v") for n in range(RECORDS)])
    await made.live()
    made.agents = [counting("old"), counting("new")]
    made.send("in", [(f"k{n % 7}", b"v") for n in range(20)])
    with caplog.at_level(logging.INFO):
        await made.live(batch=5)
    assert "new/0 is far behind and catches up by itself" in caplog.text
    assert "new/0 is near and joins the others" in caplog.text
    assert "old/0 is far behind" not in caplog.text
    lived = await made.lived()
    for number in range(PARTITIONS):
        assert lived.rows["new", number] == lived.rows["old", number]
    total = sum(int.from_bytes(raw[-1:]) for number in range(PARTITIONS) for raw in lived.rows["old", number].values())
    assert total == RECORDS + 20
    assert made.cluster.records(TopicPartition("in", 0))


async def test_a_death_while_catching_up_loses_and_doubles_nothing() -> None:
    for dies_at in range(3, 60, 4):
        made = town("old", "new")
        made.send("in", [(f"k{n % 7}", b"v") for n in range(RECORDS)])
        await made.live()
        made.agents = [counting("old"), counting("new")]
        await made.live(dies_at=dies_at)
        lived = await made.lived()
        for number in range(PARTITIONS):
            assert lived.rows["new", number] == lived.rows["old", number]
