"""Telling the time, as records, to the partitions whose timers wait for it (docs/decisions/0007-time-as-records.md)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime

import msgspec

from app.kernel.errors import FleetError
from app.runtime.kafka.sender import RecordSender
from app.runtime.ports import Clock, TopicPartition
from app.runtime.shard import Shard

log = logging.getLogger(__name__)

TICK_EVERY_S = 1.0


async def tell_the_time(
    brokers: str, clock: Clock, shards: Callable[[], Iterable[Shard]], drained: Callable[[], Collection[TopicPartition]]
) -> None:
    """Every second until cancelled: tell it to those of `shards` that wait.

    Windows want the clock's time only where no event is left to be read: `drained` are those sources.
    """
    sender = RecordSender(brokers)
    try:
        while True:
            await clock.sleep(TICK_EVERY_S)
            value = msgspec.json.encode({"time": datetime.fromtimestamp(clock.epoch_ms() / 1000, UTC)})
            try:
                for partition in sorted(waiting(shards(), drained())):
                    await sender.send(partition, None, value)
            except FleetError as error:
                log.info("the time could not be told: %s", error)
    finally:
        await sender.close()


def waiting(shards: Iterable[Shard], drained: Collection[TopicPartition]) -> set[TopicPartition]:
    """Where the time is to be told."""
    found: set[TopicPartition] = set()
    for shard in shards:
        ticking = shard.agent.ticking
        if ticking is None or not shard.waits_for_time():
            continue
        if ticking.idle is None or TopicPartition(ticking.idle, shard.partition) in drained:
            found.add(TopicPartition(ticking.topic, shard.partition))
    return found
