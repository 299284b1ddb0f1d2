"""Producers that send poison, send everything several times, or send it in any order."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chaos.faults import Scene, fault

COPIES = 3
POISON: tuple[bytes | None, ...] = (
    b"no json",
    b"{}",
    b"\xff\xfe\x00",
    None,
    json.dumps({"id": "1", "type": "order.destroy.v1"}).encode(),
    b"[" * 50_000,
    b"x" * 900_000,
)


@fault("poison-records", "load")
@asynccontextmanager
async def poison_records(scene: Scene) -> AsyncIterator[None]:
    """What is no command, on both command topics and in every partition."""
    sent = 0
    for category in ("orders", "inventory"):
        for partition in range(scene.stage.settings.partitions):
            for value in scene.lots.sample(POISON, 3):
                await scene.load.post_raw(category, partition, b"poison", value)
                sent += 1
    scene.mark.what = f"{sent} records"
    yield


@fault("records-duplicated", "load", lasts_s=(4.0, 10.0))
@asynccontextmanager
async def duplicated(scene: Scene) -> AsyncIterator[None]:
    """A producer that sends everything several times."""
    scene.load.copies, scene.mark.what = COPIES, f"{COPIES} times each"
    try:
        yield
    finally:
        scene.load.copies = 1


@fault("records-shuffled", "load", lasts_s=(4.0, 10.0))
@asynccontextmanager
async def shuffled(scene: Scene) -> AsyncIterator[None]:
    """Producers that send the steps of an order in any order."""
    scene.load.shuffle = True
    try:
        yield
    finally:
        scene.load.shuffle = False
