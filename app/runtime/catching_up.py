"""Catching up: an agent far behind the others reads with a consumer of its own, so that it does not hold them up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from app.runtime.batch import Batch
from app.runtime.ports import Cluster, TopicPartition
from app.runtime.shard import Shard

log = logging.getLogger(__name__)

Submit = Callable[[Batch, Shard], Awaitable[None]]
NEAR_SHARE = 10
"""An agent joins the others when it is nearer than a tenth of what counts as far."""


def shards_far_behind(readers: Mapping[TopicPartition, Sequence[Shard]], far_records: int) -> set[Shard]:
    """The shards that are more than `far_records` behind the foremost reader of one of their sources.

    For those that build a read model anew a tenth of it is far: nobody waits for them.
    """
    behind: set[Shard] = set()
    for source, shards in readers.items():
        foremost = max(shard.position(source.topic) for shard in shards)
        for shard in shards:
            far = near(far_records) if shard.agent.building else far_records
            if foremost - shard.position(source.topic) > far:
                behind.add(shard)
    return behind


def near(far_records: int) -> int:
    """How many records behind is near, where more than `far_records` is far."""
    return max(far_records // NEAR_SHARE, 1)


class CatchUp:
    """Feeds shards that are far behind until they are near and join the others. One task per shard.

    `on_joined` is called whenever one has: from then on its sources are to be fetched from its positions on, too.
    """

    def __init__(self, cluster: Cluster, submit: Submit, on_joined: Callable[[], None], far_records: int) -> None:
        self._cluster = cluster
        self._submit = submit
        self._on_joined = on_joined
        self._far, self._near = far_records, near(far_records)
        self._tasks: dict[Shard, asyncio.Task[None]] = {}

    def start(self, shards: Sequence[Shard], readers: Mapping[TopicPartition, Sequence[Shard]]) -> None:
        """Begin with those of `shards` that are far behind others among `readers`; the rest have joined."""
        behind = shards_far_behind(readers, self._far)
        for shard in shards:
            shard.joined = shard not in behind
            if not shard.joined:
                self._tasks[shard] = asyncio.create_task(self._catch_up(shard))

    async def leave(self, shard: Shard) -> None:
        """End it for one shard."""
        if (task := self._tasks.pop(shard, None)) is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def stop(self) -> None:
        """End all of it; positions that were committed stay."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _catch_up(self, shard: Shard) -> None:
        name, backoff_s = f"{shard.agent.name}/{shard.partition}", 0.5
        log.info("%s is far behind and catches up by itself", name)
        while True:
            try:
                if await self._read_on(shard):
                    break
            except Exception as error:  # noqa: BLE001 - tried again until near or stopped
                log.warning("%s: catching up failed, trying again: %r", name, error)
                await asyncio.sleep(backoff_s)
        log.info("%s is near and joins the others", name)
        shard.joined = True
        self._on_joined()

    async def _read_on(self, shard: Shard) -> bool:
        """Read each source to the end that it has now; whether all were near."""
        sources = [TopicPartition(topic, shard.partition) for topic in shard.agent.sources]
        async with self._cluster.reader() as reader:
            bounds = await reader.bounds(sources)
            starts = {s: max(shard.position(s.topic), bounds[s].begin) for s in sources}
            far = {s: start for s, start in starts.items() if bounds[s].end - start > self._near}
            if not far:
                return True
            async for chunk in reader.read(far, {s: bounds[s].end for s in far}):
                batch = Batch(chunk.partition, chunk.records, 0, chunk.start, chunk.position)
                await self._submit(batch, shard)
                if shard.position(chunk.partition.topic) < chunk.position:
                    return False
        return False
