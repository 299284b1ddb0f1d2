"""RocksDB stores and what disks, crashes and other processes do to them."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rocksdict import Rdict

from app.kernel.errors import ConfigurationRefused, StoreClosed, StoreFailed
from app.runtime.ports import Progress
from app.runtime.settings import Settings
from tables.budget import RocksDBBudget
from tables.opening import ASIDE_SUFFIX, PROGRESS_KEY, StoreInUse
from tables.store import RocksDBStore, RocksDBStores

ROWS = 50
FLUSHES, FLUSHES_TIMEOUT_S = 12, 60.0

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


SMALL_WRITER = """
import sys
from pathlib import Path
from app.runtime.ports import Progress
from app.runtime.settings import Settings
from tables.budget import RocksDBBudget
from tables.store import RocksDBStores

settings = Settings(rocksdb_write_buffer_bytes=1 << 20)
store = RocksDBStores(Path(sys.argv[1]), RocksDBBudget.of(settings, stores=1))("agent", 0)
for turn in range(1, 10_000_000):
    store.write({b"row": b"%d" % turn}, Progress(turn, "log", turn))
"""
"""Rows as small as the progress: a flush that could come between the two would do so half of the time."""


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


def test_rows_and_progress_are_flushed_together_or_not_at_all(tmp_path: Path) -> None:
    """Each copy is what a crash at that moment would have left: what memtables held is gone, and no log has it."""
    writer = subprocess.Popen([sys.executable, "-c", SMALL_WRITER, str(tmp_path / "live")])
    seen: set[int] = set()
    deadline = time.monotonic() + FLUSHES_TIMEOUT_S
    try:
        while len(seen) < FLUSHES and time.monotonic() < deadline:
            copy = tmp_path / f"copy-{time.monotonic_ns()}"
            os.kill(writer.pid, signal.SIGSTOP)
            if not list((tmp_path / "live").glob("tables/agent/0/*.sst")):
                os.kill(writer.pid, signal.SIGCONT)
                time.sleep(0.01)
                continue
            shutil.copytree(tmp_path / "live", copy)
            os.kill(writer.pid, signal.SIGCONT)
            store = open_store(copy)
            position = store.progress.position if store.progress else 0
            assert store.get(b"row") == (b"%d" % position if position else None)
            seen.add(position)
            store.close()
            shutil.rmtree(copy)
    finally:
        writer.kill()
        writer.wait()
    assert len(seen) >= FLUSHES, "the memtables were flushed too seldom to tell"


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


def test_a_damaged_block_with_the_progress_in_it_begins_again_empty(tmp_path: Path) -> None:
    """The progress has the smallest key: it lies in the first block, and is the first thing that is read."""
    path = written(tmp_path)
    file = next(path.glob("*.sst"))
    whole = file.read_bytes()
    file.write_bytes(whole[:10] + b"\xde\xad" * 4 + whole[18:])
    store = open_store(tmp_path)
    assert (store.progress, store.scan(b"")) == (None, [])
    store.close()
    assert path.with_name(path.name + ASIDE_SUFFIX).is_dir()


def test_a_progress_that_cannot_be_decoded_begins_again_empty(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    assert store._db is not None
    store._db.put(PROGRESS_KEY, b"\xc1 is no MessagePack")
    store.close()
    store = open_store(tmp_path)
    assert (store.progress, store.scan(b"")) == (None, [])
    store.close()


def test_damage_anywhere_is_found_or_harmless(tmp_path: Path) -> None:
    """Wherever and however files are damaged: all rows of one progress, or none, and at the second opening at most."""
    store = open_store(tmp_path / "whole")
    for turn in range(1, 7):
        store.write({b"row%02d" % n: b"%d" % turn + bytes(100) for n in range(ROWS)}, Progress(turn, "log", turn))
        assert store._db is not None
        store._db.flush()
    store.close()
    seed = random.randrange(1 << 32)
    dice = random.Random(seed)
    for case in range(40):
        directory = tmp_path / str(case)
        shutil.copytree(tmp_path / "whole", directory)
        what = damage(directory / "tables" / "agent" / "0", dice)
        told = f"seed {seed}, case {case}: {what}"
        progress, found = read_at_last(directory)
        turns = {int(value.rstrip(b"\0")) for value in found.values()}
        if progress is None:
            assert found == {}, told
        else:
            assert (len(found), turns) == (ROWS, {progress.position}), told
        shutil.rmtree(directory)


def damage(path: Path, dice: random.Random) -> str:
    files = sorted(file for kind in ("*.sst", "MANIFEST-*", "CURRENT") for file in path.glob(kind))
    file, how = dice.choice(files), dice.choice(["cut", "garbled", "zeroed", "gone"])
    whole = file.read_bytes()
    at = dice.randrange(len(whole))
    match how:
        case "cut":
            file.write_bytes(whole[:at])
        case "garbled":
            file.write_bytes(whole[:at] + bytes(byte ^ 0x5A for byte in whole[at : at + 16]) + whole[at + 16 :])
        case "zeroed":
            file.write_bytes(whole[:at] + bytes(len(whole[at : at + 512])) + whole[at + 512 :])
        case _:
            file.unlink()
    return f"{file.name} {how} at {at}"


def read_at_last(directory: Path) -> tuple[Progress | None, dict[bytes, bytes]]:
    """What a store holds that is closed and opened again where it cannot be read.

    As in a pipeline, the error is still being handled then, and its traceback must not hold the store open.
    """
    store = open_store(directory)
    try:
        return store.progress, dict(store.scan(b""))
    except StoreFailed:
        store.close()
        store = open_store(directory)
        return store.progress, dict(store.scan(b""))
    finally:
        store.close()


@contextmanager
def no_more_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_shortage_of_files_costs_no_rows_and_ends(tmp_path: Path) -> None:
    path = written(tmp_path)
    stores = RocksDBStores(tmp_path, budget())
    with no_more_files(), pytest.raises(StoreFailed, match="ulimit"):
        stores("agent", 0)
    assert not path.with_name(path.name + ASIDE_SUFFIX).exists(), "the files were not at fault"
    store = stores("agent", 0)
    assert store.progress == Progress(1, "log", 1)
    with no_more_files(), pytest.raises(StoreFailed):
        store.wipe()
    with pytest.raises(StoreClosed):
        store.get(b"k00001")
    store.close()
    stores("agent", 0).close()


def test_a_file_in_the_way_is_told_with_the_setting(tmp_path: Path) -> None:
    (tmp_path / "tables").write_text("no directory")
    with pytest.raises(StoreFailed, match="FLEET_DATA_DIR"):
        open_store(tmp_path)


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


def test_readers_see_whole_batches_while_another_thread_writes(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    keys = [b"k%03d" % n for n in range(200)]
    store.write(dict.fromkeys(keys, b"0"), Progress(0, "log", 0))
    torn: list[object] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen = {value for _, value in store.scan(b"k")}
            together = set(store.get_many(keys))
            if len(seen) != 1 or len(together) != 1:
                torn.append((seen, together))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for turn in range(1, 300):
        store.write(dict.fromkeys(keys, b"%d" % turn), Progress(turn, "log", turn))
    done.set()
    for reader in readers:
        reader.join(10)
    store.close()
    assert torn == []


def test_a_reader_that_hangs_holds_up_neither_the_writer_nor_the_closing_for_long(tmp_path: Path) -> None:
    stores = RocksDBStores(tmp_path, budget())
    store = stores("agent", 0)
    store.write({b"k": b"v"}, Progress(1, "log", 1))
    inside, leave = threading.Event(), threading.Event()

    def hang(db: Rdict) -> None:
        inside.set()
        leave.wait(30)

    reader = threading.Thread(target=store._read, args=(hang,))
    reader.start()
    assert inside.wait(10)
    store.write({b"k": b"w"}, Progress(2, "log", 2))
    assert store.get_many([b"k"]) == [b"w"]
    store.close()
    with pytest.raises(StoreInUse, match="this process"):
        stores("agent", 0)
    leave.set()
    reader.join(10)
    again = stores("agent", 0)
    assert (again.get(b"k"), again.progress) == (b"w", Progress(2, "log", 2))
    again.close()


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
    deadline_s = time.monotonic() + 10
    while (used := shared.write_buffers.get_usage()) > 16 << 20 and time.monotonic() < deadline_s:
        time.sleep(0.01)  # they are flushed in the background
    assert 0 < used <= 16 << 20, "48 MB were written: memtables must have been flushed"
    for store in opened:
        store.close()


def test_a_hundred_stores_of_a_few_rows_stay_far_below_the_budget(tmp_path: Path) -> None:
    """With RocksDB's own arena blocks they fill the budget at once, and flush tiny files ever after."""
    shared = RocksDBBudget.of(Settings(rocksdb_write_buffer_bytes=16 << 20), stores=100)
    stores = RocksDBStores(tmp_path, shared)
    opened = [stores("agent", number) for number in range(100)]
    for turn in range(5):
        for store in opened:
            store.write({b"k%d" % n: bytes(100) for n in range(10)}, Progress(turn, "log", turn))
    assert shared.write_buffers.get_usage() < 8 << 20
    assert list(tmp_path.rglob("*.sst")) == []
    for store in opened:
        store.close()
