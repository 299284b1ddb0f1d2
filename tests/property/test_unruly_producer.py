"""A producer that repeats a fifth of its events and shuffles all of them within ten: readers end up as if it had not.

Also where the process dies between any two of its steps: what was held back is in the tables, and so in the changelog.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.catalogue import Catalogue
from app.chains.fulfilment import FULFILMENT
from app.domain.customer import CUSTOMER
from app.domain.inventory import INVENTORY
from app.domain.order import ORDER
from app.filters.high_value import HIGH_VALUE
from app.filters.vip import VIP
from app.projections.orders import ORDERS
from bench.backlog import events
from loadtest.unruly import unruly
from tables.held import GAPS, HELD, HOLDING
from tests.property.lives import SETTINGS, TOPICS, Lived, Town

READERS = Catalogue(
    aggregates=(ORDER, INVENTORY, CUSTOMER), projections=(ORDERS,), chains=(FULFILMENT,), filters=(HIGH_VALUE, VIP)
)
EVENTS = TOPICS.events("orders")
DECIDING = tuple(f"deciding-{aggregate.category}" for aggregate in READERS.aggregates)

Sent = tuple[str, bytes]


def town() -> Town:
    """Everything that reads events, and nobody who decides: the events come from elsewhere."""
    agents = [agent for agent in READERS.agents(SETTINGS) if agent.name not in DECIDING]
    return Town(agents, READERS.topics(SETTINGS))


def after(sent: Sequence[Sent], lives: Sequence[tuple[int, bool, int]] = ()) -> Lived:
    async def run() -> Lived:
        made = town()
        made.send(EVENTS, sent)
        for dies_at, disk_lost, batch in lives:
            await made.live(dies_at=dies_at, disk_lost=disk_lost, batch=batch)
        await made.live(batch=7)
        return await made.lived()

    return asyncio.run(run())


def as_seen(lived: Lived) -> tuple[object, object]:
    """Rows, and what was sent per key: the order among different keys is nobody's promise."""
    by_key: dict[tuple[str, int, bytes | None], list[bytes | None]] = {}
    for (topic, partition), records in lived.records.items():
        for key, value in records:
            by_key.setdefault((topic, partition, key), []).append(value)
    return lived.rows, by_key


def test_the_producer_is_unruly() -> None:
    """The comparison below proves nothing about events that come in order."""
    sent = list(events(50))
    shuffled = unruly(sent, seed=1)
    assert len(shuffled) == 240
    assert sum(one != other for one, other in zip(shuffled, sent, strict=False)) > 100
    held = [rows for rows in after([one for one in sent if b'"version":1,' not in one[1]]).rows.values() if rows]
    assert any(key.startswith(HELD.prefix) for rows in held for key in rows)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(0, 1 << 32),
    st.integers(1, 12),
    st.lists(st.tuples(st.integers(1, 60), st.booleans(), st.integers(1, 9)), max_size=3),
)
def test_readers_end_up_as_if_events_had_come_in_order(
    seed: int, orders: int, lives: list[tuple[int, bool, int]]
) -> None:
    sent = list(events(orders))
    found = after(unruly(sent, seed=seed), lives)
    assert as_seen(found) == as_seen(after(sent))
    left = [key for rows in found.rows.values() for key in rows]
    assert not [key for key in left if key.startswith((HELD.prefix, GAPS.prefix, HOLDING.prefix))]
