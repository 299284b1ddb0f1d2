"""Whatever lies in `fleet.redrive`: what is no instruction concerns nobody, and the next record goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.catalogue import CATALOGUE
from app.runtime.dead_letters import Kind, Letter, instruction
from app.runtime.ports import Header, TopicPartition
from app.runtime.topics import partition_of
from tests.property.bad_input import ODD, encode
from tests.property.lives import PARTITIONS, SETTINGS, TOPICS, Town
from tests.property.test_bad_input import KEYS, VALID, anything

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")
"""Some of what comes in is large: that is the point."""

AGENTS = sorted(agent.name for agent in CATALOGUE.agents(SETTINGS) if agent.redrive)
TOPIC = next(agent.redrive for agent in CATALOGUE.agents(SETTINGS) if agent.redrive)

texts = st.sampled_from(["", "x", "-1", "0", "1", "9" * 5000, *(str(odd)[:200] for odd in ODD if odd != "\ud800")])
numbers = st.integers(-2, 2**70)
letters = st.builds(
    Letter,
    cause=st.sampled_from(["undecodable", "raised", "parked"]) | texts,
    detail=texts,
    agent=st.sampled_from(AGENTS),
    topic=st.sampled_from(["orders.events", "orders.commands", TOPIC, "nowhere"]),
    partition=numbers,
    offset=numbers,
    timestamp_ms=numbers,
    sequence=texts,
    number=numbers,
    attempt=numbers,
)
told = st.builds(instruction, st.sampled_from(Kind), letters)


@st.composite
def headers(draw: st.DrawFn) -> list[Header]:
    """Those of an instruction, of which some may be others, or none."""
    found = [(name, value[:5000]) for name, value in _encodable(draw(told))]
    if draw(st.booleans()):
        at = draw(st.integers(0, len(found) - 1))
        other: bytes | None = draw(st.none() | st.binary(max_size=10))
        found[at : at + 1] = draw(st.sampled_from([[], [(found[at][0], other)], [("x", b""), found[at]]]))
    return found


def _encodable(found: Sequence[Header]) -> list[Header]:
    return [(name, bytes(value)) for name, value in found]


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(KEYS, anything("orders.events"), headers()), min_size=1, max_size=8))
def test_bad_instructions_stop_nobody(sent: Sequence[tuple[bytes | None, bytes | None, list[Header]]]) -> None:
    async def run() -> Town:
        town = Town(CATALOGUE.agents(SETTINGS), CATALOGUE.topics(SETTINGS))
        for number in range(PARTITIONS):
            town.cluster.append(TopicPartition(TOPIC, number), *sent)
        town.send(TOPICS.commands("orders"), [("valid", encode(VALID))])
        await town.live()
        return town

    town = asyncio.run(run())
    row = town.stores("projecting-orders", partition_of("valid", PARTITIONS)).get(b"orders\x00valid")
    assert row is not None
