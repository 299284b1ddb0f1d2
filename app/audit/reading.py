"""Reads the fleet's topics as they stand on the brokers: settled records only, with a plain consumer of its own."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from app.audit.records import FIRST, Place, Seen, place_of, seen
from app.kernel.errors import FleetError

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 5.0
REQUEST_TIMEOUT_S = 20.0
STALL_TIMEOUT_S = 30.0
FETCH_MS = 250
RECORDS_MAX = 5_000
OPTIONS: dict[str, Any] = {
    "isolation_level": "read_committed",
    "enable_auto_commit": False,
    "auto_offset_reset": "none",
    "fetch_max_wait_ms": 100,
    "max_partition_fetch_bytes": 1 << 20,
    "request_timeout_ms": 10_000,
    "metadata_max_age_ms": 10_000,
}


STANDINGS = "fleet.projections"
"""Compacted: read model → which of its generations is read. It has one partition."""


class NotAudited(FleetError):
    """The topics could not be read: there is no verdict, neither a good one nor a bad one."""


class TopicReader:
    """Reads every topic of a fleet, pass by pass, each up to the ends that it finds. Use it as a context.

    Entered again, it goes on where it was.
    """

    def __init__(self, brokers: str, prefix: str = "") -> None:
        self._brokers, self._prefix = brokers, prefix
        self._standings = f"{prefix}{STANDINGS}"
        self._consumer: Any = None
        self._places: dict[str, Place] = {}
        self._positions: dict[TopicPartition, int] = {}
        self.horizons: dict[tuple[str, int], int] = {}
        """(topic, partition) → time of the first record, where older ones are gone. Not of compacted topics."""

    async def __aenter__(self) -> TopicReader:
        self._consumer = AIOKafkaConsumer(bootstrap_servers=self._brokers.split(","), **OPTIONS)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._consumer.start()
        except (KafkaError, OSError) as error:
            await self._stop()
            raise NotAudited(
                f"no Kafka answers at {self._brokers}: start one with `fleet up`, or set FLEET_BROKERS to one that runs"
            ) from error
        except asyncio.CancelledError:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def _stop(self) -> None:
        consumer, self._consumer = self._consumer, None
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await consumer.stop()
        except (KafkaError, OSError, TimeoutError):
            return

    async def read(self) -> AsyncIterator[list[Seen]]:
        """All that is new since the last pass, up to the ends that the topics have now."""
        try:
            await self._find_topics()
            ends = await self._ends()
            async for records in self._up_to(ends):
                yield records
        except (KafkaError, OSError, TimeoutError) as error:
            raise NotAudited(f"the topics cannot be read: {error!r}; see `fleet status` and Kafka's log") from error

    async def _find_topics(self) -> None:
        async with asyncio.timeout(REQUEST_TIMEOUT_S):
            cluster = await self._consumer._client.fetch_all_metadata()
        names: set[str] = cluster.topics()
        live = await self._live_generations() if self._standings in names else {}
        self._places = {n: place for n in names if (place := place_of(n, self._prefix, live)) is not None}
        if not self._places:
            prefixed = f" with the prefix {self._prefix}" if self._prefix else ""
            raise NotAudited(
                f"{self._brokers} has no topics of a fleet{prefixed}: make them with `fleet topics`, or set "
                "FLEET_BROKERS and FLEET_TOPIC_PREFIX"
            )
        found = {TopicPartition(name, n) for name in self._places for n in cluster.partitions_for_topic(name)}
        new = sorted(found - self._positions.keys())
        if new:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                # All topics at once: otherwise aiokafka learns of them one by one, with a pause after each.
                await self._consumer._client.set_topics(self._places)
                begins = await self._consumer.beginning_offsets(new)
            self._positions |= begins
            await self._find_horizons({partition: at for partition, at in begins.items() if at > 0})

    async def _live_generations(self) -> dict[str, int]:
        """Which generation of each read model that was ever rebuilt is read now."""
        live: dict[str, int] = {}
        standings = TopicPartition(self._standings, 0)
        async with asyncio.timeout(REQUEST_TIMEOUT_S):
            await self._consumer._client.set_topics([self._standings])
            self._consumer.assign([standings])
            begins = await self._consumer.beginning_offsets([standings])
            ends = await self._consumer.end_offsets([standings])
            self._consumer.seek(standings, begins[standings])
            while await self._consumer.position(standings) < ends[standings]:
                for records in (await self._consumer.getmany(timeout_ms=FETCH_MS)).values():
                    live |= dict(map(_live, records))
        return live

    async def _find_horizons(self, begins: Mapping[TopicPartition, int]) -> None:
        """When each log begins whose own beginning is gone."""
        async with asyncio.timeout(REQUEST_TIMEOUT_S):
            firsts = await self._consumer.offsets_for_times(dict.fromkeys(begins, 0)) if begins else {}
        for partition, first in firsts.items():
            # An empty log begins with what comes next: nothing that is older is there.
            at = time.time_ns() // 1_000_000 if first is None else first.timestamp
            self.horizons[partition.topic, partition.partition] = at

    async def _ends(self) -> dict[TopicPartition, int]:
        async with asyncio.timeout(REQUEST_TIMEOUT_S):
            wanted = [partition for partition in self._positions if partition.topic in self._places]
            ends: dict[TopicPartition, int] = await self._consumer.end_offsets(wanted)
        return {partition: end for partition, end in ends.items() if end > self._positions[partition]}

    async def _up_to(self, ends: dict[TopicPartition, int]) -> AsyncIterator[list[Seen]]:
        if not ends:
            return
        self._consumer.assign(list(ends))
        for partition in ends:
            self._consumer.seek(partition, self._positions[partition])
        progress_s = time.monotonic()
        while ends:
            fetched = await self._consumer.getmany(timeout_ms=FETCH_MS, max_records=RECORDS_MAX)
            now = time.monotonic()
            for partition, records in fetched.items():
                self._positions[partition] = records[-1].offset + 1  # whatever comes, they are not read again
            if fetched:
                progress_s = now
                yield [
                    seen(self._places[record.topic], record, now) for records in fetched.values() for record in records
                ]
            if await self._note_positions(ends):
                progress_s = now
            elif now - progress_s > STALL_TIMEOUT_S:
                left = ", ".join(f"{p.topic} {p.partition}" for p in sorted(ends)[:5])
                raise NotAudited(f"nothing came of {left}, … for {STALL_TIMEOUT_S:.0f} s: are brokers away?")

    async def _note_positions(self, ends: dict[TopicPartition, int]) -> bool:
        """Take the positions over, and those that are at their ends out. Whether anything moved."""
        moved = False
        for partition, end in list(ends.items()):
            position = await self._consumer.position(partition)
            moved |= position != self._positions[partition]
            self._positions[partition] = position
            if position >= end:
                del ends[partition]
                self._consumer.pause(partition)
        return moved


def _live(record: Any) -> tuple[str, int]:
    """A read model, and which of its generations is read."""
    told = json.loads(record.value) if record.value else {}
    return record.key.decode(), int(told.get("live", FIRST))
