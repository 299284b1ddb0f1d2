"""The RocksDB table engine: the rows of one agent in one partition, and how far they reflect their log.

The write-ahead log is off: rows and progress are written in one batch, so a store that lost its memtables in a crash is
an older, consistent one, and the changelog's tail brings it up to date.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec
from rocksdict import DbClosedError, Rdict, ReadOptions, WriteBatch, WriteOptions

from app.kernel.errors import StoreClosed, StoreFailed
from app.runtime.ports import Progress
from tables.budget import RocksDBBudget

log = logging.getLogger(__name__)

T = TypeVar("T")

PROGRESS_KEY = b"\x00"
ASIDE_SUFFIX = ".corrupt"

_encode_progress = msgspec.msgpack.Encoder().encode
_decode_progress = msgspec.msgpack.Decoder(Progress).decode


class StoreInUse(StoreFailed):
    """Another process, or another part of this one, has the store open."""


class RocksDBStore:
    """One store (see `ports.PartitionStore`). One thread writes; any thread may read."""

    def __init__(self, path: Path, budget: RocksDBBudget, on_close: Callable[[Path], None] = lambda path: None) -> None:
        self.path = path
        self._budget = budget
        self._on_close = on_close
        # Held while reading and closing: RocksDB must not go away under a reader. Writes need no lock.
        self._lock = threading.Lock()
        self._corrupt = False
        self._write_options: Any = WriteOptions()  # the hints take its properties for methods
        self._write_options.disable_wal = True  # type: ignore[method-assign,assignment]
        self._db: Rdict | None = _open(path, budget)
        raw = self._guarded(lambda db: db.get(PROGRESS_KEY))
        self._progress = None if raw is None else _decode_progress(raw)

    @property
    def progress(self) -> Progress | None:
        """See `ports.PartitionStore`."""
        return self._progress

    def get(self, key: bytes) -> bytes | None:
        """See `ports.PartitionStore`."""
        return self._guarded(lambda db: db.get(key))

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `ports.PartitionStore`."""
        wanted: Any = list(keys)
        return self._guarded(lambda db: cast(list[bytes | None], db.get(wanted)))

    def scan(self, prefix: bytes, after: bytes | None = None, limit: int = 1_000) -> list[tuple[bytes, bytes]]:
        """See `ports.PartitionStore`."""
        return self._guarded(lambda db: _scan(db, prefix, after, limit))

    def write(self, rows: Mapping[bytes, bytes | None], progress: Progress) -> None:
        """See `ports.PartitionStore`."""
        db = self._db
        if db is None:
            raise StoreClosed(f"{self.path} is closed")
        batch = WriteBatch(raw_mode=True)
        put, delete = batch.put, batch.delete
        for key, value in rows.items():
            if value is None:
                delete(key)
            else:
                put(key, value)
        put(PROGRESS_KEY, _encode_progress(progress))
        try:
            db.write(batch, self._write_options)
        except Exception as error:
            raise self._failed(error) from error
        self._progress = progress

    def wipe(self) -> None:
        """See `ports.PartitionStore`."""
        with self._lock:
            if self._db is None:
                raise StoreClosed(f"{self.path} is closed")
            self._db.close()
            self._db = None
            shutil.rmtree(self.path)
            self._db = _open(self.path, self._budget)
            self._progress = None

    def close(self) -> None:
        """See `ports.PartitionStore`. What was written is flushed; a store found corrupt is moved aside."""
        with self._lock:
            db, self._db = self._db, None
            if db is None:
                return
            try:
                db.close()
            except Exception as error:  # noqa: BLE001 - rocksdict raises plain exceptions; nothing is lost with it
                log.warning("closing %s: %s; its changelog has what it may lack", self.path, error)
            finally:
                if self._corrupt:
                    move_aside(self.path)
                self._on_close(self.path)

    def _guarded(self, read: Callable[[Rdict], T]) -> T:
        with self._lock:
            db = self._db
            if db is None:
                raise StoreClosed(f"{self.path} is closed")
            try:
                return read(db)
            except DbClosedError as error:
                raise StoreClosed(f"{self.path} is closed") from error
            except Exception as error:
                raise self._failed(error) from error

    def _failed(self, error: Exception) -> StoreFailed:
        self._corrupt = self._corrupt or "Corruption" in str(error)
        return StoreFailed(f"{self.path}: {error}")


def _scan(db: Rdict, prefix: bytes, after: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
    options = ReadOptions()
    if (end := _end_of(prefix)) is not None:
        options.set_iterate_upper_bound(end)
    rows: list[tuple[bytes, bytes]] = []
    cursor: Any = db.iter(options)
    cursor.seek(prefix if after is None else max(prefix, after))
    while len(rows) < limit and cursor.valid():
        key = cursor.key()
        if key not in (after, PROGRESS_KEY):
            rows.append((key, cursor.value()))
        cursor.next()
    cursor.status()  # an iterator that meets a damaged block merely ends
    return rows


def _end_of(prefix: bytes) -> bytes | None:
    """The smallest key that is greater than every key with the prefix."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else None


def _open(path: Path, budget: RocksDBBudget) -> Rdict:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return Rdict(str(path), budget.options())
    except Exception as error:  # noqa: BLE001 - rocksdict raises plain exceptions: their text tells
        _refuse_if_not_corrupt(path, error)
        log.warning("%s cannot be opened and is rebuilt from its log: %s", path, error)
        move_aside(path)
        return Rdict(str(path), budget.options())


def _refuse_if_not_corrupt(path: Path, error: Exception) -> None:
    """What is not the files' fault is not mended by throwing them away."""
    text = str(error)
    if "lock" in text.lower():
        raise StoreInUse(
            f"{path} is in use by another process: give every worker a FLEET_DATA_DIR of its own, or stop the other one"
        ) from error
    for number in (errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EROFS, errno.EDQUOT):
        if os.strerror(number) in text:
            raise StoreFailed(f"{path} cannot be opened: {text}") from error


def move_aside(path: Path) -> None:
    """Keep the damaged files of the last time, for whoever wants to look, and only those."""
    aside = path.with_name(path.name + ASIDE_SUFFIX)
    shutil.rmtree(aside, ignore_errors=True)
    path.rename(aside)


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
