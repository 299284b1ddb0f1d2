"""Brokers that are killed, hang, are restarted all together, or are deposed without their clients noticing."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient

from app.local.kafka import LocalKafka
from app.local.node import CONTROLLER
from app.runtime.topics import Topics
from chaos.faults import NotHere, Scene, fault
from chaos.proxy import Condition
from chaos.stage import PEERS, Stage, route

HANGS_S = 25.0
IN_OUTAGE_S = 3.0


@fault("broker-kill-9-leader", "brokers", lasts_s=(2.0, 9.0))
@asynccontextmanager
async def kill_9_leader(scene: Scene) -> AsyncIterator[None]:
    """The leader of a partition of the commands."""
    node = await _leader(scene)
    await scene.stage.kill_broker(node)
    scene.mark.struck(f"broker {node.node.node_id}")
    yield
    await scene.stage.start_broker(node)


@fault("broker-kill-9-controller", "brokers", lasts_s=(2.0, 9.0))
@asynccontextmanager
async def kill_9_controller(scene: Scene) -> AsyncIterator[None]:
    """The active controller, which is a broker as well."""
    node = scene.stage.cluster.nodes[scene.stage.controller()]
    await scene.stage.kill_broker(node)
    scene.mark.struck(f"broker {node.node.node_id}")
    yield
    await scene.stage.start_broker(node)


@fault("broker-hung", "brokers", lasts_s=(HANGS_S, HANGS_S))
@asynccontextmanager
async def hung(scene: Scene) -> AsyncIterator[None]:
    """A broker stands still for 25 s: its connections are open, and nobody answers."""
    node = scene.lots.choice(list(scene.stage.cluster.nodes.values()))
    pid = node.pid
    if pid is None:
        raise NotHere("the broker does not run")
    await scene.stage.proxy.guard(pid)
    os.kill(pid, signal.SIGSTOP)
    scene.mark.struck(f"broker {node.node.node_id}")  # the others must take over while it hangs
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@fault("brokers-all-restarted", "brokers", lasts_s=(0.5, 3.0))
@asynccontextmanager
async def all_restarted(scene: Scene) -> AsyncIterator[None]:
    """All three die at once, and come back."""
    await _kill_all(scene.stage)
    scene.mark.struck("all")
    yield
    await _start_all(scene.stage)


@fault("outage-with-workers", "brokers", "workers", lasts_s=(IN_OUTAGE_S, IN_OUTAGE_S * 2))
@asynccontextmanager
async def outage_with_workers(scene: Scene) -> AsyncIterator[None]:
    """With no broker left one worker is told to stop, which it must do, and another one is started, which must wait."""
    stopped, started = scene.lots.sample(list(scene.stage.workers.values()), 2)
    await scene.stage.kill_worker(started)
    await _kill_all(scene.stage)
    await asyncio.sleep(IN_OUTAGE_S)
    await scene.stage.start_worker(started)
    await scene.stage.stop_worker(stopped)
    scene.mark.what = f"{stopped.name} stopped, {started.name} started"
    yield
    await _start_all(scene.stage)
    await scene.stage.start_worker(stopped)


@fault("leader-deposed", "brokers", lasts_s=(12.0, 20.0))
@asynccontextmanager
async def deposed(scene: Scene) -> AsyncIterator[None]:
    """A leader loses the other brokers, who elect another one; its clients still reach it, and it knows nothing."""
    node = await _leader(scene)
    number, pid = node.node.node_id, node.pid
    if pid is None:
        raise NotHere("the broker does not run")
    silently = scene.lots.random() < 0.5
    what: dict[str, Any] = {"hold_up": True, "hold_down": True} if silently else {"cut": True}
    others = [other for other in scene.stage.cluster.nodes if other != number]
    own = frozenset({route(PEERS, number), route(CONTROLLER, number)})
    theirs = frozenset(route(kind, other) for kind in (PEERS, CONTROLLER) for other in others)
    proxy = scene.stage.proxy
    await proxy.impose("to-it", Condition(own, **what))
    await proxy.impose("from-it", Condition(theirs, frozenset({pid}), **what))
    scene.mark.struck(f"broker {number}, {'in silence' if silently else 'reset'}")
    try:
        yield
    finally:
        await proxy.lift("to-it")
        await proxy.lift("from-it")


async def _leader(scene: Scene) -> LocalKafka:
    """The leader of a partition of the commands that is drawn."""
    s = scene.stage.settings
    topic, wanted = Topics(s.topic_prefix).commands("orders"), scene.lots.randrange(s.partitions)
    admin = AIOKafkaAdminClient(bootstrap_servers=s.brokers.split(","))
    await admin.start()
    try:
        described = (await admin.describe_topics([topic]))[0]
    finally:
        await admin.close()
    leaders = {one["partition"]: one["leader"] for one in described["partitions"]}
    if leaders[wanted] not in scene.stage.cluster.nodes:
        raise NotHere(f"{topic}/{wanted} has no leader now")
    return scene.stage.cluster.nodes[leaders[wanted]]


async def _kill_all(stage: Stage) -> None:
    for node in stage.cluster.nodes.values():
        if (pid := node.pid) is not None:
            os.kill(pid, signal.SIGKILL)
    await asyncio.gather(*(stage.kill_broker(node) for node in stage.cluster.nodes.values()))


async def _start_all(stage: Stage) -> None:
    for node in stage.cluster.nodes.values():
        node.launch(with_parent=True)
    await asyncio.gather(*(stage.start_broker(node) for node in stage.cluster.nodes.values()))
