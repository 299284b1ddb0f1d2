"""Read models built anew beside the old, whatever breaks: both come to the same, and the old one goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from app.runtime.agent import Agent
from app.runtime.generations import Standing, generation_name
from app.runtime.topics import Topic
from tests.property.lives import PARTITIONS, SETTINGS, Lived, Town
from tests.property.test_read_models import DEATHS, ONLY_READS, WISHES, Wish, wish

NAMES = [projection.name for projection in ONLY_READS.projections]
NEAR = SETTINGS.model_copy(update={"catch_up_records": 10})
"""Building agents are far behind at once, and catch up with a consumer of their own."""


def agents(live: int = 1, building: int | None = None) -> list[Agent]:
    standing = Standing(live=live, building=building)
    return ONLY_READS.agents(SETTINGS, dict.fromkeys(NAMES, standing))


def topics(generation: int) -> list[Topic]:
    return [topic for name in NAMES for topic in ONLY_READS.topics_of_generation(SETTINGS, name, generation)]


def check_same(found: Lived, one: int, other: int) -> None:
    for name in NAMES:
        for number in range(PARTITIONS):
            rows = found.rows[f"projecting-{generation_name(name, one)}", number]
            assert rows == found.rows[f"projecting-{generation_name(name, other)}", number], (name, number)


async def build(made: Town, now: Sequence[Agent], then: Sequence[Agent], deaths: list[tuple[int, bool, int]]) -> None:
    """Run `now`, change over to `then` in mid-life, and go on with it through more deaths."""
    made.agents = now
    for dies_at, disk_lost, batch in [*deaths[:1], (None, False, 3)]:
        await made.live(dies_at=dies_at, disk_lost=disk_lost, batch=batch, then=then)
    made.agents = then
    for dies_at, disk_lost, batch in deaths[1:]:
        await made.live(dies_at=dies_at, disk_lost=disk_lost, batch=batch)


@settings(max_examples=25, deadline=None)
@given(WISHES, WISHES, DEATHS, st.sampled_from([SETTINGS, NEAR]))
def test_whoever_dies_a_new_generation_comes_to_the_same(
    wishes: Sequence[Wish], more: Sequence[Wish], deaths: list[tuple[int, bool, int]], near: object
) -> None:
    async def run() -> tuple[Lived, Lived]:
        made = Town(agents(), [*ONLY_READS.topics(SETTINGS), *topics(2), *topics(3)], settings=near)  # type: ignore[arg-type]
        wish(made, wishes)
        await made.live()
        wish(made, more, "later")
        await build(made, agents(), agents(1, building=2), deaths)
        second = await made.lived()
        made.stores.crash()
        # The second is read, the first is gone, a third is built: in the inbox that the first has had.
        await build(made, agents(live=2), agents(2, building=3), deaths)
        return second, await made.lived()

    second, third = asyncio.run(run())
    check_same(second, 1, 2)
    check_same(third, 2, 3)


async def test_what_is_given_up_is_let_go_in_mid_life() -> None:
    made = Town(agents(1, building=2), [*ONLY_READS.topics(SETTINGS), *topics(2)])
    wish(made, [("c1", 0, 100, "is paid")])
    await made.live(then=agents())
    made.agents = agents()
    wish(made, [("c2", 0, 100, "is paid")], "later")
    await made.live()
    assert (await made.lived()).rows.keys().isdisjoint({("projecting-customers.g2", 0), ("projecting-customers.g2", 1)})
