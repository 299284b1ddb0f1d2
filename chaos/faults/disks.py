"""Disks that are emptied, damaged or full, and processes that may open no more files."""

from __future__ import annotations

import os
import random
import resource
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from chaos.faults import NotHere, Scene, fault
from chaos.faults.workers import lose_disk, victim

FILE_BYTES_MAX = 4_096


@fault("data-directory-deleted", "workers", lasts_s=(1.0, 4.0))
@asynccontextmanager
async def data_directory_deleted(scene: Scene) -> AsyncIterator[None]:
    """Under a worker that was killed, or under one that runs."""
    worker, alive = victim(scene), scene.lots.random() < 0.5
    if alive:
        tables = worker.data_dir / "tables"
        shutil.rmtree(tables, ignore_errors=True)
        scene.mark.struck(f"{worker.name}, which ran on")
        yield
        return
    await scene.stage.kill_worker(worker)
    lose_disk(worker)
    scene.mark.struck(f"{worker.name}, which was killed")
    yield
    await scene.stage.start_worker(worker)


@fault("rocksdb-file-truncated", "workers", lasts_s=(0.5, 3.0))
@asynccontextmanager
async def rocksdb_file_truncated(scene: Scene) -> AsyncIterator[None]:
    """A killed worker finds some of its files cut short."""
    worker = victim(scene)
    await scene.stage.kill_worker(worker)
    cut = truncate_some(worker.data_dir / "tables", scene.lots)
    scene.mark.struck(f"{worker.name}: {', '.join(cut) or 'there was no file'}")
    yield
    await scene.stage.start_worker(worker)


def truncate_some(tables: Path, lots: random.Random) -> list[str]:
    """Cut up to three files of RocksDB short; which ones."""
    files = [file for file in sorted(tables.rglob("*")) if file.is_file() and file.stat().st_size]
    files = [file for file in files if file.name not in ("LOCK", "LOG", "IDENTITY")]
    cut = lots.sample(files, min(3, len(files)))
    for file in cut:
        os.truncate(file, lots.randrange(file.stat().st_size))
    return [str(file.relative_to(tables)) for file in cut]


@fault("disk-full", "workers", lasts_s=(8.0, 14.0))
@asynccontextmanager
async def disk_full(scene: Scene) -> AsyncIterator[None]:
    """No byte is free. Where there is no disk of its own, which takes root, the worker's files may not grow."""
    worker = victim(scene)
    disk = scene.stage.disks[worker.name]
    if disk.why_not is None:
        taken = disk.fill()
        scene.mark.what = f"{worker.name}: a tmpfs, its last {taken >> 20} MiB taken"
        try:
            yield
        finally:
            disk.empty()
        return
    async with _limited(scene, worker.pid, resource.RLIMIT_FSIZE, FILE_BYTES_MAX):
        scene.mark.what = f"{worker.name}: its files may not grow ({disk.why_not})"
        yield


@fault("out-of-file-handles", "workers", lasts_s=(8.0, 14.0))
@asynccontextmanager
async def out_of_file_handles(scene: Scene) -> AsyncIterator[None]:
    """A running process may open nothing more: no file, no connection."""
    worker = victim(scene)
    try:
        used = len(os.listdir(f"/proc/{worker.pid}/fd"))
    except OSError as error:
        raise NotHere(f"the file handles of {worker.name} cannot be counted: {error}") from error
    async with _limited(scene, worker.pid, resource.RLIMIT_NOFILE, used):
        scene.mark.what = f"{worker.name} at {used}"
        yield


@asynccontextmanager
async def _limited(scene: Scene, pid: int | None, which: int, limit: int) -> AsyncIterator[None]:
    if pid is None or not hasattr(resource, "prlimit"):
        raise NotHere("limits of a running process can be set on Linux alone")
    soft, hard = resource.prlimit(pid, which)
    resource.prlimit(pid, which, (limit, hard))
    try:
        yield
    finally:
        try:
            resource.prlimit(pid, which, (soft, hard))
        except ProcessLookupError:
            scene.mark.what += "; it did not outlive it"
