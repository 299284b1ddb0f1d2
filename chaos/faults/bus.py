"""The bus of the workers' notifications, which nothing that is decided may depend on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chaos.faults import NotHere, Scene, fault


@fault("redis-killed", "bus", lasts_s=(3.0, 8.0))
@asynccontextmanager
async def redis_killed(scene: Scene) -> AsyncIterator[None]:
    """Redis dies, and comes back with nothing in it."""
    redis = scene.stage.redis
    if not redis.here:
        raise NotHere("this machine has no redis-server: the bus is Kafka")
    redis.kill()
    scene.mark.struck("the only one")
    try:
        yield
    finally:
        redis.start()
