"""A crash of the store in memory: what was not flushed may be lost, the newest first, rows and progress together."""

from __future__ import annotations

import pytest

from app.runtime.ports import Progress
from tables.memory import MemoryStores


def at(position: int) -> Progress:
    return Progress(position, "log", 0)


@pytest.mark.parametrize(
    ("lost", "rows", "position"),
    [(0, {b"b": b"2"}, 3), (1, {b"a": b"1", b"b": b"2"}, 2), (2, {b"a": b"1"}, 1), (3, {}, None)],
)
def test_a_crash_loses_the_newest_writes_whole(lost: int, rows: dict[bytes, bytes], position: int | None) -> None:
    stores = MemoryStores()
    store = stores("agent", 0)
    store.write({b"a": b"1"}, at(1))
    store.write({b"b": b"2"}, at(2))
    store.write({b"a": None}, at(3))
    stores.crash(lambda unflushed: min(unflushed, lost))
    again = stores("agent", 0)
    assert again.rows() == rows
    assert (again.progress and again.progress.position) == position


def test_what_was_closed_is_flushed() -> None:
    stores = MemoryStores()
    store = stores("agent", 0)
    store.write({b"a": b"1"}, at(1))
    store.close()
    stores("agent", 0)
    stores.crash(lambda unflushed: unflushed)
    assert stores("agent", 0).rows() == {b"a": b"1"}
