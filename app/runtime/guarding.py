"""Guarding: whether the topics are still those that were opened. One that was deleted and made again looks like any."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from app.runtime.patience import EXPECTED
from app.runtime.ports import Cluster
from app.runtime.shard import Shard

log = logging.getLogger(__name__)

LOOK_EVERY_S = 5.0


class TopicGuard:
    """Looks every few seconds while a pipeline is open, and calls `on_replaced` with the name of a topic, once."""

    def __init__(self, cluster: Cluster, on_replaced: Callable[[str], None]) -> None:
        self._cluster = cluster
        self._on_replaced = on_replaced
        self._task: asyncio.Task[None] | None = None

    def start(self, shards: Iterable[Shard], log_topics: Iterable[str]) -> None:
        """Begin, with the ids that the shards were opened with. `log_topics` are those of the shards' logs."""
        opened = {topic: shard.log_id for shard, topic in zip(shards, log_topics, strict=True)}
        for shard in shards:
            opened |= shard.source_ids
        self._task = asyncio.create_task(self._look(opened))

    async def stop(self) -> None:
        """End."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _look(self, opened: dict[str, str]) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                ids = await self._cluster.topic_ids(sorted(opened))
            except Exception as error:  # noqa: BLE001 - the next look tries again
                level = logging.DEBUG if isinstance(error, EXPECTED) else logging.ERROR
                log.log(level, "the topics' ids are not known now: %r", error)
                continue
            # Those that are missing may come back as they were, as far as an answer in an outage can tell.
            replaced = sorted(topic for topic, found in ids.items() if found != opened[topic])
            if replaced:
                self._on_replaced(replaced[0])
                return
