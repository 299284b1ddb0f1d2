"""A unit of work's own order: what it has changed is found by a scan, in its place."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.runtime.ports import Progress
from app.runtime.table import Table
from app.runtime.unit import UnitOfWork
from tables.memory import MemoryStore, MemoryStores

ROWS: Table[int] = Table("rows", int)
OTHER: Table[int] = Table("rows-other", int)
Changes = list[tuple[int, int | None]]
CHANGES = st.lists(st.tuples(st.integers(0, 30), st.one_of(st.none(), st.integers(0, 9))), max_size=40)


def key(number: int) -> bytes:
    return f"{number:02d}".encode()


def store_with(rows: dict[int, int]) -> MemoryStore:
    store = MemoryStores()("agent", 0)
    written = {ROWS.prefix + key(number): ROWS.encode(value) for number, value in rows.items()}
    store.write({**written, OTHER.prefix + b"07": OTHER.encode(99)}, Progress(1, "log", 1))
    return store


@given(
    st.dictionaries(st.integers(0, 30), st.integers(0, 9)), CHANGES, CHANGES, st.integers(-1, 31), st.integers(1, 40)
)
def test_a_scan_sees_what_was_changed(
    stored: dict[int, int], before: Changes, after: Changes, start: int, limit: int
) -> None:
    """Changes are made before and after the first scan, which puts an order up, and by a nested unit."""
    unit, wanted = UnitOfWork(0, store_with(stored)), dict[int, int | None](stored)

    def check(one: UnitOfWork) -> None:
        rows = [(key(n), value) for n, value in sorted(wanted.items()) if value is not None and n > start]
        assert one.scan(ROWS, None if start < 0 else key(start), limit) == rows[:limit]

    for number, value in before:
        unit.put(ROWS, key(number), value)
    wanted |= dict(before)
    check(unit)
    check(unit.nested())
    nested = unit.nested()
    check(nested)
    for number, value in after:
        nested.put(ROWS, key(number), value)
    wanted |= dict(after)
    check(nested)
    unit.absorb(nested)
    check(unit)


def test_a_scan_goes_on_where_the_store_pages() -> None:
    unit = UnitOfWork(0, MemoryStores()("agent", 0))
    rows = {ROWS.prefix + f"{n:04d}".encode(): ROWS.encode(n) for n in range(1_000)}
    unit._store.write(rows, Progress(1, "log", 1))
    unit.put(ROWS, b"0500", None)
    assert [value for _, value in unit.scan(ROWS, b"0100", 2_000)] == [n for n in range(101, 1_000) if n != 500]
