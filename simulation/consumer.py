"""A worker's consumer: fetches, buffers, and hands batches over, as Faust with our `BatchConsumer` does.

What it fetched before a seek stays in the buffers; after a rebalance it begins where the group's offsets are; now and
then it is somewhere else altogether. The pipelines must bear all of it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from aiokafka.errors import IllegalStateError, KafkaError

from app.runtime.batch import Batch
from app.runtime.ports import Record, TopicPartition

if TYPE_CHECKING:
    from simulation.process import Process

BACK_OFF_S = 0.1
TIE_S = 1e-6
"""A timer may be called this much before its time: what waits for the same moment counts as due."""


class Consumer:
    """Implements `ports.SourceControl`, and feeds the process's pipelines."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._random = Random(f"{process.fleet.seed}/{process.name}/consumer")
        self.positions: dict[TopicPartition, int] = {}
        self._chain: dict[TopicPartition, int] = {}
        self._epochs: dict[TopicPartition, int] = defaultdict(int)
        self._buffers: dict[TopicPartition, deque[Batch]] = defaultdict(deque)
        self._delivering: set[TopicPartition] = set()
        self._dirty: dict[TopicPartition, None] = {}
        self._skips: set[TopicPartition] = set()
        self._held: dict[TopicPartition, float] = {}
        self._wake = asyncio.Event()
        self._last: list[Batch] = []

    # What others tell it

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        """Begin with these, at the offsets of the group or where it was. What is buffered stays buffered."""
        offsets, keep = self._process.worker.group.offsets, self._random.random() < 0.5
        known, chain = (self.positions, self._chain) if keep else ({}, {})
        self.positions = {p: known.get(p, offsets.get(p, 0)) for p in partitions}
        self._chain = {p: chain.get(p, at) for p, at in self.positions.items()}
        self.look_again()

    async def seek(self, partition: TopicPartition, offset: int) -> int:
        """See `ports.SourceControl`."""
        await asyncio.sleep(0.0001)
        await self._process.awake()
        if partition not in self.positions:
            raise IllegalStateError(f"{partition} is not assigned")
        self._process.effect("seek")
        self._epochs[partition] += 1
        self.positions[partition] = self._chain[partition] = offset
        self.grown(partition)
        return self._epochs[partition]

    def grown(self, partition: TopicPartition) -> None:
        """There may be something to fetch."""
        if partition in self.positions:
            self._dirty[partition] = None
            self._wake.set()

    def look_again(self) -> None:
        """There may be something to fetch anywhere."""
        for partition in self.positions:
            self.grown(partition)

    @property
    def quiet(self) -> bool:
        """Whether nothing is buffered or under way."""
        return not self._delivering and not any(self._buffers.values())

    # Faults

    def jump(self, share: float, seconds: float) -> None:
        """Be somewhere else, in one partition that has records, and fetch from there after a while.

        Not behind the last record: a consumer that skips the end would say nothing until the next one comes.
        """
        process, choice = self._process, int(share * 1e3)
        loop, cluster = process.fleet.loop, process.fleet.cluster
        lasts = {partition: cluster.log(partition).last_settled for partition in self.positions}
        used = [partition for partition, last in lasts.items() if last > 0]
        if not used:
            return
        partition = used[int(share * len(used))]
        before = self.positions[partition]
        if choice % 3 == 0:  # ahead by one record, when there are more: the smallest gap there is
            self._skips.add(partition)
        elif choice % 3 == 1:  # back by a few: what comes then is partly new
            self.positions[partition] = self._chain[partition] = max(0, before - 1 - choice % 5)
        else:
            self.positions[partition] = self._chain[partition] = choice % (lasts[partition] + 1)
        self._held[partition] = loop.time() + seconds
        loop.call_later(seconds, self.grown, partition)

    def repeat(self) -> None:
        """Hand the last batches over again."""
        for batch in self._last[-3:]:
            if batch.partition in self.positions:
                self._buffers[batch.partition].appendleft(batch)
                self._deliver(batch.partition)

    def forget(self) -> None:
        """Lose what is buffered, as Faust does when a rebalance begins."""
        for buffer in self._buffers.values():
            buffer.clear()

    # Its loop

    async def run(self) -> None:
        """Fetch what there is, again and again."""
        process = self._process
        while True:
            await self._wake.wait()
            self._wake.clear()
            await process.awake()
            at = self._fetchable()
            if not at:
                continue
            epochs = {partition: self._epochs[partition] for partition in at}
            assignment = self.positions
            try:
                fetched = await process.perform("fetch", partial(self._read, at))
            except KafkaError:
                await asyncio.sleep(BACK_OFF_S)
                self.look_again()
                continue
            for partition, (records, start, end) in fetched.items():
                sought = self.positions.get(partition) != at[partition] or self._epochs[partition] != epochs[partition]
                if self.positions is assignment and not sought:
                    self._take(partition, records, start, end)
                self.grown(partition)

    def _fetchable(self) -> dict[TopicPartition, int]:
        process, found = self._process, {}
        limit = process.worker.settings.buffered_batches_max
        dirty, self._dirty = self._dirty, {}
        for partition in dirty:
            position = self.positions.get(partition)
            log = process.fleet.cluster.find(partition)
            if self._held.get(partition, 0.0) > process.fleet.loop.time() + TIE_S:
                continue
            if position is None or log is None or len(self._buffers[partition]) >= limit:
                continue
            if partition in self._skips and position + 1 <= min(log.last_settled, process.settled_end(log) - 1):
                self._skips.discard(partition)
                position += 1
                self.positions[partition] = self._chain[partition] = position
            if process.settled_end(log) > position or position > log.end:
                found[partition] = position
        return found

    def _read(self, at: dict[TopicPartition, int]) -> dict[TopicPartition, tuple[Sequence[Record], int, int]]:
        process = self._process
        found: dict[TopicPartition, tuple[Sequence[Record], int, int]] = {}
        for partition, wanted in at.items():
            log = process.fleet.cluster.find(partition)
            if log is None:
                continue
            position = wanted if log.begin <= wanted <= log.end else log.begin  # as `auto_offset_reset` has it
            end = process.settled_end(log)
            if end > position:
                records, end = log.settled(position, process.fleet.scene.batch_records_max, end)
                found[partition] = records, position, end
        return found

    def _take(self, partition: TopicPartition, records: Sequence[Record], start: int, end: int) -> None:
        if start != self.positions[partition]:
            self._chain[partition] = start
        self.positions[partition] = end
        if records:
            batch = Batch(partition, records, self._epochs[partition], self._chain[partition], end)
            self._chain[partition] = end
            self._buffers[partition].append(batch)
            self._deliver(partition)

    def _deliver(self, partition: TopicPartition) -> None:
        if partition not in self._delivering:
            self._delivering.add(partition)
            self._process.spawn(self._hand_over(partition))

    async def _hand_over(self, partition: TopicPartition) -> None:
        process, buffer = self._process, self._buffers[partition]
        while buffer:
            await process.awake()
            if not buffer:
                break
            batch = buffer.popleft()
            self._last = [*self._last[-5:], batch]
            self.grown(partition)
            pipeline = process.holdings.pipeline_of(partition.partition)
            if pipeline is not None:
                await pipeline.submit(batch)
        self._delivering.discard(partition)
