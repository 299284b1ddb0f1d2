"""What happens between workers and brokers: the network is cut, slow, narrow, or open on one side only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chaos.faults import Scene, fault
from chaos.faults.workers import victim
from chaos.proxy import Condition
from chaos.stage import WORKERS, route


@fault("network-cut", "workers", lasts_s=(4.0, 12.0))
@asynccontextmanager
async def cut(scene: Scene) -> AsyncIterator[None]:
    """Connections are reset, and new ones are refused."""
    async with _between(scene, cut=True):
        yield


@fault("network-latency", "workers", lasts_s=(5.0, 12.0))
@asynccontextmanager
async def latency(scene: Scene) -> AsyncIterator[None]:
    """Everything takes a fraction of a second longer, each way."""
    async with _between(scene, delay_ms=scene.lots.choice((50, 200, 600))):
        yield


@fault("network-half-open", "workers", lasts_s=(5.0, 15.0))
@asynccontextmanager
async def half_open(scene: Scene) -> AsyncIterator[None]:
    """Connections stay, but what one side sends, or both, does not arrive until later."""
    up, down = scene.lots.choice(((True, False), (False, True), (True, True)))
    async with _between(scene, hold_up=up, hold_down=down):
        yield


@fault("network-narrow", "workers", lasts_s=(5.0, 12.0))
@asynccontextmanager
async def narrow(scene: Scene) -> AsyncIterator[None]:
    """Hardly anything passes."""
    async with _between(scene, bytes_per_s=scene.lots.choice((8, 32, 128)) << 10):
        yield


@asynccontextmanager
async def _between(scene: Scene, **what: int) -> AsyncIterator[None]:
    """Either between one worker and all brokers, or between all workers and one broker."""
    brokers = sorted(scene.stage.cluster.nodes)
    worker, broker = victim(scene), scene.lots.choice(brokers)
    told = ", ".join(f"{name}={value}" for name, value in what.items())
    if scene.lots.random() < 0.6 and worker.pid is not None:
        routes = frozenset(route(WORKERS, number) for number in brokers)
        condition = Condition(routes, frozenset({worker.pid}), **what)  # type: ignore[arg-type]
        scene.mark.what = f"{worker.name} and all brokers, {told}"
    else:
        condition = Condition(frozenset({route(WORKERS, broker)}), **what)  # type: ignore[arg-type]
        scene.mark.what = f"all workers and broker {broker}, {told}"
    await scene.stage.proxy.impose("network", condition)
    try:
        yield
    finally:
        await scene.stage.proxy.lift("network")
