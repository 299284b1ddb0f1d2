"""The RocksDB table engine: the rows of one agent in one partition, and how far they reflect their log.

The write-ahead log is off: rows and progress are written in one batch, so a store that lost its memtables in a crash is
an older, consistent one, and the changelog's tail brings it up to date.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

from rocksdict import DbClosedError, Rdict, ReadOptions, WriteBatch, WriteOptions

from app.kernel.errors import StoreClosed, StoreFailed
from app.runtime.ports import Progress
from tables.budget import RocksDBBudget
from tables.opening import (
    PROGRESS_KEY,
    StoreInUse,
    encode_progress,
    is_corruption,
    move_aside,
    open_or_begin_again,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

READERS_WAIT_S = 1.0
"""How long closing waits for readers. They take milliseconds, unless the disk hangs."""


class RocksDBStore:
    """One store (see `ports.PartitionStore`). One thread writes, wipes and closes; any thread may read.

    open ──close──▶ closed ;  open ──wipe──▶ open, or unusable where the disk refuses: then close it and open again.

    Readers are counted, not locked out: they hold up neither each other nor the writer, only the closing.
    """

    def __init__(self, path: Path, budget: RocksDBBudget, on_close: Callable[[Path], None] = lambda path: None) -> None:
        self.path = path
        self._budget = budget
        self._on_close = on_close
        self._closed = False
        self._corrupt = False
        self._readers = 0
        self._no_readers = threading.Condition(threading.Lock())
        self._write_options: Any = WriteOptions()  # the hints take its properties for methods
        self._write_options.disable_wal = True  # type: ignore[method-assign,assignment]
        self._db: Rdict | None
        self._db, self._progress = open_or_begin_again(path, budget)

    @property
    def progress(self) -> Progress | None:
        """See `ports.PartitionStore`."""
        return self._progress

    def get(self, key: bytes) -> bytes | None:
        """See `ports.PartitionStore`."""
        return self._read(lambda db: db.get(key))

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `ports.PartitionStore`."""
        wanted: Any = list(keys)
        return self._read(lambda db: cast(list[bytes | None], db.get(wanted)))

    def scan(
        self, prefix: bytes, after: bytes | None = None, limit: int = 1_000, *, backwards: bool = False
    ) -> list[tuple[bytes, bytes]]:
        """See `ports.PartitionStore`."""
        scan = _scan_backwards if backwards else _scan
        return self._read(lambda db: scan(db, prefix, after, limit))

    def write(self, rows: Mapping[bytes, bytes | None], progress: Progress) -> None:
        """See `ports.PartitionStore`."""
        db = self._db
        if db is None:
            raise self._is_closed()
        batch = _batch(rows, progress)
        try:
            db.write(batch, self._write_options)
        except Exception as error:  # noqa: BLE001 - told by its kind and raised again
            self._raise(error)
        self._progress = progress

    def wipe(self) -> None:
        """See `ports.PartitionStore`."""
        db = self._take()
        if db is None:
            raise self._is_closed()
        try:
            db.close()
            shutil.rmtree(self.path)
            self._db, self._progress = open_or_begin_again(self.path, self._budget)
        except Exception as error:  # noqa: BLE001 - told by its kind and raised again
            self._raise(error)

    def close(self) -> None:
        """See `ports.PartitionStore`. What was written is flushed; a store found corrupt is moved aside."""
        if self._closed:
            return
        self._closed = True
        try:
            if (db := self._take()) is not None:
                db.close()
        except Exception as error:  # noqa: BLE001 - rocksdict raises plain exceptions; nothing is lost with it
            log.warning("closing %s: %s; its changelog has what it may lack", self.path, error)
        finally:
            self._on_close(self.path)
        if self._corrupt:
            move_aside(self.path)

    def _read(self, read: Callable[[Rdict], T]) -> T:
        with self._no_readers:
            if (db := self._db) is None:
                raise self._is_closed()
            self._readers += 1
        try:
            return read(db)
        except Exception as error:  # noqa: BLE001 - told by its kind and raised again
            self._raise(error)
        finally:
            with self._no_readers:
                self._readers -= 1
                if not self._readers:
                    self._no_readers.notify_all()

    def _take(self) -> Rdict | None:
        """The database, for the caller alone: no reader gets in any more, and those inside have left."""
        with self._no_readers:
            db, self._db = self._db, None
            if not self._no_readers.wait_for(lambda: not self._readers, READERS_WAIT_S):
                # The last reader to leave ends it, if the error's traceback does not hold it; until then its lock
                # refuses to open it again.
                del db
                raise StoreFailed(f"a reader of {self.path} does not come to an end: see whether the disk hangs")
            return db

    def _is_closed(self) -> StoreClosed:
        return StoreClosed(f"{self.path} is closed: open it again")

    def _raise(self, error: Exception) -> NoReturn:
        """RocksDB's troubles are plain exceptions; others are a defect of the caller, or are named already."""
        if isinstance(error, DbClosedError):
            raise self._is_closed() from error
        if type(error) is not Exception and not isinstance(error, OSError):
            raise error
        self._corrupt = self._corrupt or is_corruption(error)
        raise StoreFailed(f"{self.path}: {error}") from error


def _batch(rows: Mapping[bytes, bytes | None], progress: Progress) -> WriteBatch:
    if PROGRESS_KEY in rows:
        raise ValueError(f"the key {PROGRESS_KEY!r} is the store's own")
    batch = WriteBatch(raw_mode=True)
    put, delete = batch.put, batch.delete
    for key, value in rows.items():
        if value is None:
            delete(key)
        else:
            put(key, value)
    put(PROGRESS_KEY, encode_progress(progress))
    return batch


def _scan(db: Rdict, prefix: bytes, after: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
    options = ReadOptions()
    if (end := _end_of(prefix)) is not None:
        options.set_iterate_upper_bound(end)
    rows: list[tuple[bytes, bytes]] = []
    cursor: Any = db.iter(options)
    try:
        cursor.seek(prefix if after is None else max(prefix, after))
        while len(rows) < limit and cursor.valid():
            key = cursor.key()
            if key not in (after, PROGRESS_KEY):
                rows.append((key, cursor.value()))
            cursor.next()
        cursor.status()  # an iterator that meets a damaged block merely ends
        return rows
    finally:
        del cursor  # the traceback of an error would keep the iterator, and that the database's lock


def _scan_backwards(db: Rdict, prefix: bytes, after: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
    options = ReadOptions()
    end = _end_of(prefix)
    if end is not None:
        options.set_iterate_upper_bound(end)
    rows: list[tuple[bytes, bytes]] = []
    cursor: Any = db.iter(options)
    try:
        if after is None or (end is not None and after >= end):
            cursor.seek_to_last()
        else:
            cursor.seek_for_prev(after)
        # The prefix ends it, not a lower bound: rocksdict's is not kept to when going backwards.
        while len(rows) < limit and cursor.valid() and (key := cursor.key()).startswith(prefix):
            if key not in (after, PROGRESS_KEY):
                rows.append((key, cursor.value()))
            cursor.prev()
        cursor.status()
        return rows
    finally:
        del cursor  # see above


def _end_of(prefix: bytes) -> bytes | None:
    """The smallest key that is greater than every key with the prefix."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else None


class RocksDBStores:
    """Opens stores under `data_dir`/tables/<agent>/<partition> (see `ports.StoreFactory`)."""

    def __init__(self, data_dir: Path, budget: RocksDBBudget) -> None:
        self._root = data_dir / "tables"
        self._budget = budget
        self._open: set[Path] = set()

    def __call__(self, agent: str, partition: int) -> RocksDBStore:
        """The store of one agent and partition; `StoreInUse` while it is open."""
        path = self._root / agent / str(partition)
        if path in self._open:
            raise StoreInUse(f"{path} is open already: close it first")
        store = RocksDBStore(path, self._budget, self._open.discard)
        self._open.add(path)
        return store

    def holds(self, agent: str, partition: int) -> bool:
        """See `ports.StoreFactory`."""
        return (self._root / agent / str(partition)).is_dir()

    def forget(self, agent: str) -> None:
        """See `ports.StoreFactory`."""
        root = self._root / agent
        if root.is_dir() and not any(path.parent == root for path in self._open):
            shutil.rmtree(root, ignore_errors=True)
