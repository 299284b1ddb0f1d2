"""What an agent waits for in vain comes from the event store, and ends up where it would have been all along."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents.filling import GapFilling
from app.catalogue import Catalogue
from app.domain.order import ORDER, OrderEvent
from app.kernel import Envelope
from app.projections.orders import ORDERS, OrderRow, project
from app.runtime.dead_letters import Kind
from app.runtime.letter_box import LetterBox
from app.runtime.ports import Header, TopicPartition
from app.runtime.redriving import Redriving
from app.runtime.shard import Shard
from app.runtime.topics import partition_of
from bench.backlog import events, order_id
from loadtest.unruly import unruly
from tables.event_store import HISTORY, history_key
from tables.held import GAPS, HELD, HOLDING, held_back
from tables.read_models import read_model_of
from tests.property.lives import PARTITIONS, SETTINGS, TOPICS, Town

EVENTS = TOPICS.events("orders")
POISONED: set[str] = set()


def stumbling(row: OrderRow | None, envelope: Envelope[OrderEvent]) -> OrderRow:
    if envelope.stream_id in POISONED:
        raise ZeroDivisionError(envelope.stream_id)
    return project(row, envelope)


CATALOGUE = Catalogue(aggregates=(ORDER,), projections=(replace(ORDERS, project=stumbling),), windows=())
PROJECTING = next(agent for agent in CATALOGUE.agents(SETTINGS) if agent.name == "projecting-orders")


class Place:
    """A town of the order projection and the event store, and someone who looks after its gaps."""

    def __init__(self) -> None:
        POISONED.clear()
        agents = [
            agent for agent in CATALOGUE.agents(SETTINGS) if agent.name in ("projecting-orders", "indexing-orders")
        ]
        self.town = Town(agents, CATALOGUE.topics(SETTINGS))
        self.filling = GapFilling(self._shards, self._history, self._send, self.town.cluster.clock, TOPICS.redrive)

    def _shards(self) -> list[Shard]:
        stores = self.town.stores
        stores.crash()
        return [Shard(PROJECTING, number, stores("projecting-orders", number)) for number in range(PARTITIONS)]

    async def _history(self, word: str, id_: str, after: int, limit: int) -> Mapping[int, bytes]:
        assert word == "order"
        store = self.town.stores("indexing-orders", partition_of(id_, PARTITIONS))
        versions = range(after + 1, after + limit + 1)
        rows = store.get_many([HISTORY.prefix + history_key(id_, version) for version in versions])
        store.close()
        return {version: HISTORY.decode(row) for version, row in zip(versions, rows, strict=True) if row}

    async def _send(self, at: TopicPartition, key: bytes | None, value: bytes, headers: Sequence[Header]) -> None:
        self.town.cluster.append(at, (key, value, headers))

    async def look(self) -> int:
        """Two looks, so far apart that what is still missing at the second one is filled."""
        sent = await self.glance()
        await self.town.cluster.clock.sleep(10.0)
        return sent + await self.glance()

    async def glance(self) -> int:
        """One look."""
        sent = await self.filling.look()
        self.town.stores.crash()
        return sent

    async def give_up(self) -> None:
        """Discard whatever lies in the dead letters."""
        cluster = self.town.cluster
        at = [TopicPartition(TOPICS.dead_letters("projecting-orders"), number) for number in range(PARTITIONS)]
        async with cluster.reader() as reader:
            box = LetterBox(reader, dict.fromkeys(at, "projecting-orders"))
            await box.read_on()
            logged = {"projecting-orders": True}
            if sequences := box.sequences():
                await Redriving(cluster, cluster.clock, TOPICS, box, logged).send(Kind.DISCARD, sequences)

    def held(self) -> int:
        found = sum(held_back(shard.opened()) for shard in self._shards())
        self.town.stores.crash()
        return found

    async def rows(self) -> dict[str, int]:
        """The orders' versions, and nothing that is held."""
        lived = await self.town.lived()
        self.town.stores.crash()
        table = read_model_of(ORDERS)
        rows = {
            k: v for (agent, _), kept in lived.rows.items() if agent == "projecting-orders" for k, v in kept.items()
        }
        assert not [key for key in rows if key.startswith((HELD.prefix, GAPS.prefix, HOLDING.prefix))]
        return {
            key.removeprefix(table.prefix).decode(): table.decode(raw).version
            for key, raw in rows.items()
            if key.startswith(table.prefix)
        }


async def test_what_was_given_up_comes_from_the_event_store_when_the_next_event_waits_for_it() -> None:
    place, sent = Place(), list(events(1))
    POISONED.add(order_id(0))
    place.town.send(EVENTS, sent[:2])
    await place.town.live()
    await place.give_up()
    await place.town.live()
    POISONED.clear()
    place.town.send(EVENTS, sent[2:])
    await place.town.live()
    assert place.held() == 2
    assert await place.look() == 2
    await place.town.live()
    assert await place.rows() == {order_id(0): 4}


async def test_a_gap_that_is_only_a_moment_old_is_left_alone() -> None:
    place, sent = Place(), list(events(1))
    place.town.send(EVENTS, [sent[1]])
    await place.town.live()
    assert await place.glance() == 0
    place.town.send(EVENTS, [sent[0]])
    await place.town.live()
    assert await place.look() == 0


async def test_what_nobody_has_is_looked_for_ever_less_often() -> None:
    place, sent = Place(), list(events(1))
    place.town.send(EVENTS, sent[2:])
    await place.town.live()
    asked: list[int] = []

    async def history(word: str, id_: str, after: int, limit: int) -> Mapping[int, bytes]:
        asked.append(after)
        return {}

    place.filling.history = history
    for _ in range(2_000):
        assert await place.glance() == 0
        await place.town.cluster.clock.sleep(1.0)
    assert 8 < len(asked) < 18
    place.town.send(EVENTS, sent[:2])
    await place.town.live()
    assert await place.rows() == {order_id(0): 4}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(0, 1 << 32),
    st.integers(1, 6),
    st.sets(st.integers(0, 5), min_size=1),
    st.integers(1, 20),
    st.lists(st.tuples(st.integers(1, 60), st.booleans(), st.integers(1, 9)), max_size=3),
)
def test_gaps_close_and_rows_are_as_if_there_had_been_none(
    seed: int, orders: int, poisoned: set[int], first: int, lives: list[tuple[int, bool, int]]
) -> None:
    sent = unruly(list(events(orders)), seed=seed)

    async def run() -> dict[str, int]:
        place = Place()
        POISONED.update(order_id(number) for number in poisoned)
        place.town.send(EVENTS, sent[:first])
        await place.town.live()
        await place.give_up()
        await place.town.live()
        POISONED.clear()
        place.town.send(EVENTS, sent[first:])
        await place.town.live()
        for dies_at, disk_lost, batch in lives:
            await place.look()
            await place.town.live(dies_at=dies_at, disk_lost=disk_lost, batch=batch)
        for _ in range(4):
            await place.town.live()
            await place.look()
        return await place.rows()

    found = asyncio.run(run())
    # After what was given up nobody asks, where no event comes behind it: that is what giving up means.
    last_came_later = {id_ for id_, value in sent[first:] if b'"version":4,' in value}
    healthy = {order_id(number) for number in range(orders)} - {order_id(number) for number in poisoned}
    assert {id_ for id_, version in found.items() if version == 4} >= last_came_later | healthy
