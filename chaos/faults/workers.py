"""Workers that are killed, stopped, paused, shuffled about, slow, or wrong about the time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.local.workers import LocalWorker
from chaos.faults import NotHere, Scene, fault
from chaos.orders import Orders
from chaos.stage import SESSION_S, Stage

DIES_WITHIN_S = 20.0
COMMIT = ("produced", "committed", "written", "store-write")
RESTORE = ("fenced", "restored", "store-write")
SNAPSHOT = "store-write:deciding-"
CLOCK_WRONG_MS = 300_000
OUT_FOR_S, IN_FOR_S = 0.5, 3.0


@fault("worker-kill-9", "workers", lasts_s=(1.0, 8.0))
@asynccontextmanager
async def kill_9(scene: Scene) -> AsyncIterator[None]:
    """Gone, and started again before or after its session has timed out."""
    worker = victim(scene)
    await scene.stage.kill_worker(worker)
    scene.mark.struck(worker.name)
    yield
    await scene.stage.start_worker(worker)


@fault("worker-kill-9-at-commit", "workers", lasts_s=(1.0, 4.0))
@asynccontextmanager
async def kill_9_at_commit(scene: Scene) -> AsyncIterator[None]:
    """Between produce and commit, between commit and the stores, or between two stores."""
    worker = scene.lots.choice(scene.stage.under_fire())
    effect, after = scene.lots.choice(COMMIT), scene.lots.randrange(10)
    await _dies(scene, worker, Orders(kill_at=effect, kill_after=after))
    yield
    await scene.stage.start_worker(worker)


@fault("worker-kill-9-at-snapshot", "workers", lasts_s=(1.0, 4.0))
@asynccontextmanager
async def kill_9_at_snapshot(scene: Scene) -> AsyncIterator[None]:
    """As the snapshots of aggregates are about to be written."""
    worker = scene.lots.choice(scene.stage.of_role("commands"))
    await _dies(scene, worker, Orders(kill_at=SNAPSHOT, kill_after=scene.lots.randrange(10)))
    yield
    await scene.stage.start_worker(worker)


@fault("worker-kill-9-at-restore", "workers", lasts_s=(1.0, 3.0))
@asynccontextmanager
async def kill_9_at_restore(scene: Scene) -> AsyncIterator[None]:
    """It has lost its disk, and dies once more between fencing and restoring, while restoring, or just after it."""
    worker = victim(scene)
    await scene.stage.kill_worker(worker)
    lose_disk(worker)
    effect, after = scene.lots.choice(RESTORE), scene.lots.randrange(3)
    scene.stage.order(worker, Orders(kill_at=effect, kill_after=after))
    scene.stage.start_with_orders(worker)
    scene.stage.down.add(worker.name)
    died = await _gone(worker)
    await scene.stage.kill_worker(worker)
    scene.mark.struck(f"{worker.name} at {effect}, {after} later" if died else f"{worker.name}, which got no bucket")
    yield
    await scene.stage.start_worker(worker)


@fault("worker-sigterm", "workers", lasts_s=(1.0, 6.0))
@asynccontextmanager
async def sigterm(scene: Scene) -> AsyncIterator[None]:
    """Told to stop, and started again: it must end by itself."""
    worker = victim(scene)
    scene.mark.struck(worker.name)
    await scene.stage.stop_worker(worker)
    yield
    await scene.stage.start_worker(worker)


@fault("worker-sigstop", "workers", lasts_s=(SESSION_S + 3, SESSION_S + 9))
@asynccontextmanager
async def sigstop(scene: Scene) -> AsyncIterator[None]:
    """Paused past its session, then woken up: a zombie that believes to own what others serve."""
    worker = victim(scene)
    pid = worker.pid
    if pid is None:
        raise NotHere(f"{worker.name} does not run")
    await scene.stage.proxy.guard(pid)
    os.kill(pid, signal.SIGSTOP)
    scene.mark.what = worker.name
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@fault("rebalance-storm", "workers", lasts_s=(10.0, 16.0))
@asynccontextmanager
async def rebalance_storm(scene: Scene) -> AsyncIterator[None]:
    """A worker leaves and joins every few seconds."""
    worker = scene.lots.choice(scene.stage.under_fire())
    scene.mark.what = worker.name
    over = asyncio.Event()
    storm = asyncio.create_task(_leave_and_join(scene.stage, worker, over))
    try:
        yield
    finally:
        over.set()  # not cancelled: a worker that is on its way out has to be waited for
        await storm


async def _leave_and_join(stage: Stage, worker: LocalWorker, over: asyncio.Event) -> None:
    while not over.is_set():
        await stage.stop_worker(worker)
        await asyncio.sleep(OUT_FOR_S)
        await stage.start_worker(worker)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), IN_FOR_S)


@fault("slow-handler", "workers", lasts_s=(6.0, 12.0))
@asynccontextmanager
async def slow_handler(scene: Scene) -> AsyncIterator[None]:
    """Every fold of a worker takes long, and holds up its event loop."""
    worker, slow_ms = victim(scene), scene.lots.choice((200, 500, 900))
    scene.stage.order(worker, Orders(slow_ms=slow_ms))
    scene.mark.what = f"{worker.name}, {slow_ms} ms each"
    try:
        yield
    finally:
        scene.stage.order(worker, Orders())


@fault("clock-wrong", "workers", lasts_s=(6.0, 12.0))
@asynccontextmanager
async def clock_wrong(scene: Scene) -> AsyncIterator[None]:
    """The time of day of one worker is wrong by five minutes, and then right again."""
    worker, offset_ms = victim(scene), scene.lots.choice((-CLOCK_WRONG_MS, CLOCK_WRONG_MS))
    scene.stage.order(worker, Orders(clock_offset_ms=offset_ms))
    scene.mark.what = f"{worker.name} by {offset_ms // 60_000:+d} min"
    try:
        yield
    finally:
        scene.stage.order(worker, Orders())


def victim(scene: Scene) -> LocalWorker:
    """Any worker, but twice as likely one of the role under fire."""
    stage = scene.stage
    return scene.lots.choice([*stage.workers.values(), *stage.under_fire()])


async def _dies(scene: Scene, worker: LocalWorker, orders: Orders) -> None:
    """Order it to die, and wait until it has; a worker that has nothing to do is killed as it is."""
    scene.stage.down.add(worker.name)
    scene.stage.order(worker, orders)
    died = await _gone(worker)
    await scene.stage.kill_worker(worker)
    where = f"at {orders.kill_at}, {orders.kill_after} later" if died else "idle"
    scene.mark.struck(f"{worker.name} {where}")


async def _gone(worker: LocalWorker) -> bool:
    """Whether it has died in time."""
    try:
        async with asyncio.timeout(DIES_WITHIN_S):
            while worker.pid is not None:  # noqa: ASYNC110 - what is waited for is another process
                await asyncio.sleep(0.05)
    except TimeoutError:
        return False
    return True


def lose_disk(worker: LocalWorker) -> None:
    """Delete what is in its data directory, which may itself be a mounted disk."""
    for one in worker.data_dir.iterdir():
        shutil.rmtree(one, ignore_errors=True) if one.is_dir() else one.unlink(missing_ok=True)
