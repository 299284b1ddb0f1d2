"""RocksDB stores and what disks, crashes and other processes do to them."""

from __future__ import annotations

import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from app.kernel.errors import ConfigurationRefused, StoreClosed, StoreFailed
from app.runtime.ports import Progress
from app.runtime.settings import Settings
from tables.budget import RocksDBBudget
from tables.store import ASIDE_SUFFIX, RocksDBStore, RocksDBStores, StoreInUse

ROWS = 50

WRITER = """
import sys
from pathlib import Path
from app.runtime.ports import Progress
from app.runtime.settings import Settings
from tables.budget import RocksDBBudget
from tables.store import RocksDBStores

store = RocksDBStores(Path(sys.argv[1]), RocksDBBudget.of(Settings(), stores=1))("agent", 0)
for turn in range(1, 1_000_000):
    rows = {b"row%02d" % n: b"%d" % turn for n in range(50)}
    store.write(rows | {b"padding": bytes(20_000)}, Progress(turn, "log", turn))
    if turn == 200:
        store._db.flush()
    if turn == 400:
        print("far enough", flush=True)
"""


def budget(**settings: int) -> RocksDBBudget:
    return RocksDBBudget.of(Settings.model_validate(settings), stores=4)


def open_store(directory: Path) -> RocksDBStore:
    return RocksDBStores(directory, budget())("agent", 0)


def test_kill_9_leaves_an_older_but_consistent_store(tmp_path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"far enough\n"
    writer.kill()
    writer.wait()
    writer.stdout.close()
    store = open_store(tmp_path)
    progress = store.progress
    assert progress is not None
    assert progress.position >= 200, "what was flushed must be there"
    found = dict(store.scan(b"row"))
    assert found == {b"row%02d" % n: b"%d" % progress.position for n in range(ROWS)}
    store.close()


def written(directory: Path) -> Path:
    store = open_store(directory)
    store.write({b"k%05d" % n: bytes([n % 251]) * 100 for n in range(5_000)}, Progress(1, "log", 1))
    store.close()
    return store.path


@pytest.mark.parametrize("damaged", ["CURRENT", "MANIFEST-*", "*.sst"])
@pytest.mark.parametrize("how", ["truncated", "garbled"])
def test_damaged_files_are_never_served(tmp_path: Path, damaged: str, how: str) -> None:
    """Either the store is found out as it is opened, and begins again empty; or as it is read, and next time."""
    path = written(tmp_path)
    file = max(path.glob(damaged), key=lambda file: file.stat().st_size)
    whole = file.read_bytes()
    middle = len(whole) // 2
    file.write_bytes(
        whole[:middle] if how == "truncated" else whole[:middle] + b"\xde\xad" * 64 + whole[middle + 128 :]
    )
    store = open_store(tmp_path)
    if store.progress is not None:
        with pytest.raises(StoreFailed):
            store.scan(b"k", limit=10_000)
        store.close()
        assert path.with_name(path.name + ASIDE_SUFFIX).is_dir()
        store = open_store(tmp_path)
    assert (store.progress, store.scan(b"")) == (None, [])
    store.close()


def test_a_store_in_another_process_is_not_touched(tmp_path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert writer.stdout is not None
        writer.stdout.readline()
        with pytest.raises(StoreInUse, match="FLEET_DATA_DIR"):
            open_store(tmp_path)
        assert writer.poll() is None
    finally:
        writer.kill()
        writer.communicate()


def test_readers_in_other_threads_survive_the_closing(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.write({b"k%04d" % n: b"v" for n in range(2_000)}, Progress(1, "log", 1))
    reading, errors = threading.Barrier(5), []

    def read() -> None:
        reading.wait()
        try:
            while True:
                assert store.get(b"k0001") == b"v"
                assert len(store.scan(b"k", limit=100)) == 100
        except StoreClosed:
            return
        except BaseException as error:  # noqa: BLE001 - told to the test
            errors.append(error)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    reading.wait()
    store.close()
    for reader in readers:
        reader.join(10)
    assert errors == []
    open_store(tmp_path).close()


def test_too_few_files_are_refused_with_what_to_set() -> None:
    with pytest.raises(ConfigurationRefused, match="FLEET_OPEN_FILES_MAX=64"):
        RocksDBBudget.of(Settings(open_files_max=64), stores=100)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY:
        with pytest.raises(ConfigurationRefused, match="ulimit"):
            RocksDBBudget.of(Settings(open_files_max=hard + 1), stores=1)


def test_stores_share_one_cache_and_one_budget_of_memtables(tmp_path: Path) -> None:
    shared = budget(rocksdb_write_buffer_bytes=8 << 20)
    opened = [RocksDBStores(tmp_path, shared)("agent", number) for number in range(4)]
    for turn in range(40):
        for store in opened:
            store.write({b"%d.%d" % (turn, n): bytes(10_000) for n in range(30)}, Progress(turn, "log", turn))
    used = shared.write_buffers.get_usage()
    assert 0 < used <= 16 << 20, "48 MB were written: memtables must have been flushed"
    for store in opened:
        store.close()
