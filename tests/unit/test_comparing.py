"""Two generations are compared row by row, and an event on its way is no difference."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from app.runtime.comparing import LOOKS_MAX, Comparison
from app.runtime.ports import Progress
from tables.memory import MemoryStore, MemoryStores

AT = Progress(1, "log", 1)
PREFIX = b"rows\x00"


class Generations:
    """Two stores, and what happens while somebody waits."""

    def __init__(self) -> None:
        stores = MemoryStores()
        self.live: MemoryStore = stores("rows", 0)
        self.building: MemoryStore = stores("rows.g2", 0)
        self.waits = 0
        self.meanwhile: Callable[[], None] = lambda: None

    def put(self, store: MemoryStore, key: str, version: int, row: object) -> None:
        raw = msgspec.msgpack.encode({"version": version, "row": row})
        store.write({PREFIX + key.encode(): raw, b"rowt": b"other", b"seen\x00x": b"other"}, AT)

    def both(self, key: str, version: int, row: object) -> None:
        self.put(self.live, key, version, row)
        self.put(self.building, key, version, row)

    async def sleep(self, _: float) -> None:
        self.waits += 1
        self.meanwhile()

    async def differing(self, limit: int = 100) -> dict[str, tuple[object, object]]:
        """All that differs, page by page."""
        comparison, after = Comparison(self.live, self.building, PREFIX), None
        found: dict[str, tuple[object, object]] = {}
        keys = 0
        while True:
            page = await comparison.page(after, limit, self.sleep)
            found |= {key[len(PREFIX) :].decode(): pair.rows for key, pair in page.different.items()}
            keys += page.keys
            if (after := page.after) is None:
                self.keys = keys
                return found


@pytest.fixture
def generations() -> Generations:
    return Generations()


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_each_row_is_compared_once_whatever_the_pages(generations: Generations, limit: int) -> None:
    g = generations
    for key in "abcdefg":
        g.both(key, 1, {"n": key})
    g.put(g.live, "c", 2, {"n": "old"})
    g.put(g.building, "c", 2, {"n": "new"})
    g.put(g.live, "only-old", 1, {"n": 1})
    g.put(g.building, "a-only-new", 1, {"n": 2})
    found = await g.differing(limit)
    assert found == {"c": ({"n": "old"}, {"n": "new"}), "only-old": ({"n": 1}, None), "a-only-new": (None, {"n": 2})}
    assert g.keys == 9


async def test_rows_with_as_many_events_differ_at_once(generations: Generations) -> None:
    g = generations
    g.put(g.live, "a", 3, {"n": 1})
    g.put(g.building, "a", 3, {"n": 2})
    assert await g.differing()
    assert g.waits == 0


async def test_an_event_on_its_way_is_waited_for(generations: Generations) -> None:
    g = generations
    g.put(g.live, "a", 2, {"n": 2})
    g.put(g.building, "a", 1, {"n": 1})

    def arrive() -> None:
        if g.waits == 5:
            g.put(g.building, "a", 2, {"n": 2})

    g.meanwhile = arrive
    assert await g.differing() == {}
    assert g.waits == 5


async def test_a_row_that_changes_for_ever_is_not_waited_for_so_long(generations: Generations) -> None:
    g = generations
    g.put(g.live, "a", 2, {"n": 2})
    g.put(g.building, "a", 1, {"n": 1})
    g.meanwhile = lambda: g.put(g.live, "a", 2 + g.waits, {"n": 2 + g.waits})
    assert set(await g.differing()) == {"a"}
    assert g.waits == LOOKS_MAX


async def test_a_removed_row_is_no_row(generations: Generations) -> None:
    generations.put(generations.live, "a", 2, None)
    assert await generations.differing() == {}
