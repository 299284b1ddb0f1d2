"""What a scene has left, read for the checks: records of topics, and rows of fresh stores."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from app.runtime.simulated import SimulatedRecord

if TYPE_CHECKING:
    from simulation.fleet import Fleet


def records_of(fleet: Fleet, topic: str) -> list[SimulatedRecord]:
    """All committed records of a topic, partition by partition, whatever was deleted since."""
    return [record for log in fleet.cluster.logs_of(topic) for record, _ in log.decided()]


def messages_of(fleet: Fleet, topic: str) -> list[dict[str, Any]]:
    """The same as JSON."""
    return [json.loads(record.value or b"null") for record in records_of(fleet, topic)]


def decided_of(fleet: Fleet, category: str) -> list[dict[str, Any]]:
    """The events that our own deciders have decided: others write outside of transactions."""
    logs = fleet.cluster.logs_of(fleet.topics.events(category))
    return [json.loads(record.value or b"") for log in logs for record, transaction in log.decided() if transaction]


def events_of(fleet: Fleet, category: str) -> list[dict[str, Any]]:
    """Every event once, each stream's in the order of its versions: what readers should make of a topic."""
    found = {(event["subject"], event["version"]): event for event in messages_of(fleet, fleet.topics.events(category))}
    return [found[key] for key in sorted(found)]


def rows_in(fleet: Fleet, agent: str, table: str) -> dict[str, Any]:
    """A table's rows over all partitions, as fresh stores have them, without their types."""
    return dict(every_row(fleet, agent, table))


def every_row(fleet: Fleet, agent: str, table: str) -> Iterator[tuple[str, Any]]:
    """The same where partitions have rows of the same key."""
    prefix = table.encode() + b"\x00"
    for worker in fleet.workers:
        for (name, _), store in worker.stores.items():
            for key, raw in store.rows().items() if name == agent else ():
                if key.startswith(prefix):
                    yield key[len(prefix) :].decode(errors="replace"), msgspec.msgpack.decode(raw)
