"""What every store of rows keeps, in memory or in RocksDB."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from app.kernel.errors import StoreClosed
from app.runtime.ports import PartitionStore, Progress, StoreFactory
from app.runtime.settings import Settings
from tables.budget import RocksDBBudget
from tables.memory import MemoryStores
from tables.opening import StoreInUse
from tables.store import RocksDBStores

AT = Progress(7, "log-1", 1_000)


def rocksdb(directory: Path) -> RocksDBStores:
    return RocksDBStores(directory, RocksDBBudget.of(Settings(), stores=4))


@pytest.fixture(params=["memory", "rocksdb"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> StoreFactory:
    return MemoryStores() if request.param == "memory" else rocksdb(tmp_path)


@pytest.fixture
def store(stores: StoreFactory) -> PartitionStore:
    return stores("agent", 0)


def test_a_new_store_is_empty_and_has_no_progress(store: PartitionStore) -> None:
    assert store.progress is None
    assert store.get(b"k") is None
    assert store.scan(b"") == []


def test_rows_and_progress_are_written_together(store: PartitionStore) -> None:
    store.write({b"k": b"v"}, AT)
    assert (store.get(b"k"), store.progress) == (b"v", AT)
    store.write({}, Progress(8, "log-1", 2_000))
    assert (store.get(b"k"), store.progress) == (b"v", Progress(8, "log-1", 2_000))


def test_none_deletes_a_row(store: PartitionStore) -> None:
    store.write({b"a": b"1", b"b": b"2"}, AT)
    store.write({b"a": None, b"never": None}, AT)
    assert store.scan(b"") == [(b"b", b"2")]


def test_many_rows_come_in_the_order_of_the_keys_asked_for(store: PartitionStore) -> None:
    store.write({b"a": b"1", b"b": b"2"}, AT)
    assert store.get_many([b"b", b"x", b"a", b"b"]) == [b"2", None, b"1", b"2"]
    assert store.get_many([]) == []


def test_empty_values_are_values(store: PartitionStore) -> None:
    store.write({b"k": b""}, AT)
    assert store.get(b"k") == b""
    assert store.get_many([b"k"]) == [b""]


@pytest.mark.parametrize("prefix", [b"t\x00", b"\xff", b"\xff\xff", b"a\xff"])
def test_a_scan_yields_its_prefix_alone_in_key_order(store: PartitionStore, prefix: bytes) -> None:
    own = [prefix + bytes([n]) for n in (0, 1, 127, 255)]
    others = [b"", b"s", b"t", b"t\x01", b"u", b"\xfe", b"b", b"a"]
    rows = {key: b"x" for key in (*own, *others) if key}
    store.write({**rows, **dict.fromkeys(own, b"own")}, AT)
    found = [key for key, _ in store.scan(prefix)]
    assert found == sorted(key for key in rows if key.startswith(prefix))


def test_a_scan_goes_on_after_a_key_and_stops_at_its_limit(store: PartitionStore) -> None:
    keys = [b"t%03d" % n for n in range(20)]
    store.write(dict.fromkeys(keys, b"x"), AT)
    assert [key for key, _ in store.scan(b"t", limit=3)] == keys[:3]
    assert [key for key, _ in store.scan(b"t", after=keys[2], limit=3)] == keys[3:6]
    assert [key for key, _ in store.scan(b"t", after=b"t0025", limit=2)] == keys[3:5]
    assert store.scan(b"t", after=keys[-1]) == []
    assert store.scan(b"t", limit=0) == []


@pytest.mark.parametrize("prefix", [b"", b"t\x00", b"\xff", b"\xff\xff", b"a\xff"])
def test_a_scan_backwards_is_a_scan_from_the_other_end(store: PartitionStore, prefix: bytes) -> None:
    own = [prefix + bytes([n]) for n in (1, 127, 255)]
    keys = {*own, b"s", b"t", b"t\x01", b"u", b"\xfe", b"b", b"a"}
    store.write(dict.fromkeys(keys, b"x"), AT)
    forwards = store.scan(prefix)
    assert store.scan(prefix, backwards=True) == forwards[::-1]
    for after in (*keys, b"", b"\xff" * 9, prefix):
        wanted = [row for row in forwards[::-1] if row[0] < after]
        assert store.scan(prefix, after, backwards=True) == wanted, after
        assert store.scan(prefix, after, 2, backwards=True) == wanted[:2]


def test_progress_is_no_row(store: PartitionStore) -> None:
    store.write({b"\x00meta": b"m"}, AT)
    assert store.scan(b"") == [(b"\x00meta", b"m")]
    assert store.scan(b"\x00") == [(b"\x00meta", b"m")]


def test_the_progress_cannot_be_overwritten_by_a_row(store: PartitionStore) -> None:
    store.write({b"k": b"v"}, AT)
    with pytest.raises(ValueError, match="the store's own"):
        store.write({b"\x00": b"mine"}, Progress(8, "log-1", 2_000))
    assert (store.progress, store.scan(b"")) == (AT, [(b"k", b"v")])


def test_wiping_starts_again_with_nothing(store: PartitionStore) -> None:
    store.write({b"k": b"v"}, AT)
    store.wipe()
    assert (store.get(b"k"), store.progress) == (None, None)
    store.write({b"k": b"w"}, AT)
    assert store.get(b"k") == b"w"


def test_what_was_written_is_there_after_opening_again(stores: StoreFactory) -> None:
    store = stores("agent", 1)
    store.write({b"k": b"v"}, AT)
    store.close()
    again = stores("agent", 1)
    assert (again.get(b"k"), again.progress) == (b"v", AT)


def test_stores_do_not_share_rows(stores: StoreFactory) -> None:
    one, other, third = stores("a", 0), stores("a", 1), stores("b", 0)
    one.write({b"k": b"v"}, AT)
    assert (other.get(b"k"), third.get(b"k")) == (None, None)


def test_an_agent_that_is_gone_is_forgotten_but_not_while_it_is_open(stores: StoreFactory) -> None:
    store = stores("a", 0)
    store.write({b"k": b"v"}, AT)
    stores.forget("a")
    assert store.get(b"k") == b"v"
    store.close()
    stores.forget("a")
    stores.forget("never-there")
    assert not stores.holds("a", 0)
    assert stores("a", 0).get(b"k") is None


def test_opening_twice_is_refused_until_it_is_closed(stores: StoreFactory) -> None:
    store = stores("agent", 0)
    with pytest.raises(StoreInUse, match="close it first"):
        stores("agent", 0)
    store.close()
    stores("agent", 0)


@pytest.mark.parametrize(
    "use",
    [
        lambda store: store.get(b"k"),
        lambda store: store.get_many([b"k"]),
        lambda store: store.scan(b""),
        lambda store: store.write({b"k": b"v"}, AT),
        lambda store: store.wipe(),
    ],
    ids=["get", "get_many", "scan", "write", "wipe"],
)
def test_a_closed_store_says_so(store: PartitionStore, use: Callable[[PartitionStore], object]) -> None:
    store.close()
    store.close()
    with pytest.raises(StoreClosed):
        use(store)
