"""Opening a store's files: what is damaged is put aside and begins again empty; other troubles are refused."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from pathlib import Path

import msgspec
from rocksdict import Rdict

from app.kernel.errors import StoreFailed
from app.runtime.ports import Progress
from tables.budget import RocksDBBudget

log = logging.getLogger(__name__)

PROGRESS_KEY = b"\x00"
"""The store's own row. The engine's rows begin with this byte and go on; a table's begin with its name."""
ASIDE_SUFFIX = ".corrupt"

ADVICE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space, or raise the quota",
    errno.EMFILE: "raise the process's limit of open files (ulimit -n)",
    errno.ENFILE: "raise the machine's limit of open files",
    errno.ENOMEM: "give the process more memory, or lower FLEET_ROCKSDB_CACHE_BYTES",
    errno.EACCES: "let this user write there, or set FLEET_DATA_DIR to a directory where it may",
    errno.EPERM: "let this user write there, or set FLEET_DATA_DIR to a directory where it may",
    errno.EROFS: "set FLEET_DATA_DIR to a directory on a disk that can be written to",
    errno.ENOTDIR: "set FLEET_DATA_DIR to a directory: there is a file in the way",
    errno.EEXIST: "set FLEET_DATA_DIR to a directory: there is a file in the way",
}
"""What to do about troubles that throwing the files away would not mend."""

encode_progress = msgspec.msgpack.Encoder().encode
_decode_progress = msgspec.msgpack.Decoder(Progress).decode


class StoreInUse(StoreFailed):
    """Another process, or another part of this one, has the store open."""


def open_or_begin_again(path: Path, budget: RocksDBBudget) -> tuple[Rdict, Progress | None]:
    """The store in `path` and its progress. Damaged files are moved aside: the log rebuilds what they held."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _open(path, budget)
    except Exception as error:  # noqa: BLE001 - rocksdict raises plain exceptions: their text tells
        _refuse_if_not_damaged(path, error)
        log.warning("%s cannot be opened and is rebuilt from its log: %s", path, error)
    move_aside(path)
    try:
        return _open(path, budget)
    except Exception as error:
        _refuse_if_not_damaged(path, error)
        raise StoreFailed(f"{path} cannot be opened, though it is empty: {error}") from error


def _open(path: Path, budget: RocksDBBudget) -> tuple[Rdict, Progress | None]:
    db = Rdict(str(path), budget.options())
    try:
        raw = db.get(PROGRESS_KEY)
        return db, None if raw is None else _decode_progress(raw)
    except BaseException:
        db.close()
        raise


def is_corruption(error: Exception) -> bool:
    """Whether RocksDB says that the files themselves are damaged."""
    return str(error).startswith("Corruption")


def _refuse_if_not_damaged(path: Path, error: Exception) -> None:
    text = str(error)
    for number, advice in ADVICE.items():
        if os.strerror(number) in text:
            raise StoreFailed(f"{path} cannot be opened ({text}): {advice}") from error
    # The path of the lock, not the word: "block checksum mismatch" has it too.
    if f"{path / 'LOCK'}: " in text:
        if "current process" in text:
            raise StoreInUse(f"{path} is still read or open in this process: try again when that has ended") from error
        raise StoreInUse(
            f"{path} is in use by another process: give every worker a FLEET_DATA_DIR of its own, or stop the other one"
        ) from error


def move_aside(path: Path) -> None:
    """Keep the damaged files of the last time, for whoever wants to look, and only those."""
    aside = path.with_name(path.name + ASIDE_SUFFIX)
    try:
        if aside.exists():
            shutil.rmtree(aside)
        if path.exists():
            path.rename(aside)
    except OSError as error:
        raise StoreFailed(f"{path} is damaged and cannot be moved to {aside} ({error}): remove both by hand") from error
