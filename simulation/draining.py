"""Draining: waiting until nothing is left to do, or until those refuse who must."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Set
from typing import TYPE_CHECKING

from app.runtime.lifecycle import State
from simulation.witnesses import HEARING
from simulation.worker import Worker

if TYPE_CHECKING:
    from simulation.fleet import Fleet

DRAIN_S_MAX = 120.0
LOOK_EVERY_S = 0.25
FALSE_ALARM = re.compile(rf"Where {HEARING} is new, .* FLEET_ACCEPT_LOSS=(\S+)")


async def drained(fleet: Fleet, when: str) -> bool:
    """Wait until nothing is left to do; whether it came so far."""
    quiet, why = 0, ""
    for _ in range(int(DRAIN_S_MAX / LOOK_EVERY_S)):
        await asyncio.sleep(LOOK_EVERY_S)
        await _heed_false_alarms(fleet)
        why = _unfinished(fleet)
        quiet = 0 if why else quiet + 1
        if quiet == 2:
            return True
    fleet.watch.report("everything drains", f"{when}: {why}")
    return False


async def _heed_false_alarms(fleet: Fleet) -> None:
    """Do as a refusal says that may be a false alarm: an agent is new, and workers without it had its bucket since.

    The worker is started once with the topic accepted. Had rows been lost all the same, the checks of the end say so.
    """
    if not fleet.scene.late_witness:
        return
    for worker in fleet.workers:
        process = worker.process
        if process is None:
            continue
        pipelines = process.holdings.pipelines.values()
        said = [FALSE_ALARM.search(pipeline.refusal or "") for pipeline in pipelines]
        if topics := {found[1] for found in said if found}:
            accepted = ",".join(sorted(topics | worker.settings.loss_accepted))
            worker.settings = worker.settings.model_copy(update={"accept_loss": accepted})
            await fleet.restart(worker, process)
        elif worker.settings.accept_loss and pipelines and all(pipeline.ready for pipeline in pipelines):
            worker.settings = worker.settings.model_copy(update={"accept_loss": ""})


def _unfinished(fleet: Fleet) -> str:
    if fleet.cluster.open_transactions:
        return "transactions are open"
    for group in fleet.groups:
        owners: dict[int, str] = {}
        for worker in fleet.workers:
            if worker.group is group:
                why = _work_left(fleet, worker, owners)
                if why:
                    return why
        if len(owners) != fleet.scene.buckets:
            return f"buckets without an owner: only {sorted(owners)} are served"
    return ""


def _work_left(fleet: Fleet, worker: Worker, owners: dict[int, str]) -> str:
    process = worker.process
    if process is None:
        return f"{worker.name} is down"
    for bucket, pipeline in process.holdings.pipelines.items():
        if pipeline.state is State.REFUSED:
            return f"{worker.name} refuses: {pipeline.refusal}"
        if not pipeline.ready:
            return f"{worker.name}: {pipeline!r}, last error {pipeline.stats.last_error}"
        if bucket in owners:
            return f"bucket {bucket} has two owners: {owners[bucket]} and {worker.name}"
        owners[bucket] = worker.name
        for source, position in pipeline.source_positions().items():
            last = fleet.cluster.log(source).last_settled
            if position <= last:
                return f"{worker.name} stands at {position} of {source}, whose last record is at {last}"
    return "" if process.consumer.quiet else f"{worker.name} has batches to hand over"


async def refused(fleet: Fleet, topic: str, by: Set[tuple[str, int]]) -> None:
    """Whoever uses the topic that was made again must refuse, and say so."""
    why = ""
    for _ in range(int(DRAIN_S_MAX / LOOK_EVERY_S)):
        await asyncio.sleep(LOOK_EVERY_S)
        why = _going_on(fleet, by)
        if not why:
            return
    fleet.watch.report("a topic that was made again is refused", f"{topic}: {why}")


def _going_on(fleet: Fleet, by: Set[tuple[str, int]]) -> str:
    for worker in fleet.workers:
        if worker.process is not None:
            for bucket, pipeline in worker.process.holdings.pipelines.items():
                concerned = (worker.name, bucket) in by
                if concerned and pipeline.state is not State.REFUSED:
                    return f"{pipeline!r} of {worker.name} goes on"
    return ""
