"""The directory: which worker serves which bucket of which role, told through a compacted topic.

A pipeline announces itself in its own fenced transaction once its rows are restored, so that the last word on a bucket
is always its last owner's. Every worker follows the topic, and so knows where to forward a query: across roles too.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated

import msgspec

from app.runtime.codec import NOT_JSON
from app.runtime.compacted import follow_compacted, read_compacted
from app.runtime.outbox import Outbox
from app.runtime.ports import Cluster, TopicPartition, TransactionalProducer
from app.runtime.settings import Settings
from app.runtime.topics import Topics

log = logging.getLogger(__name__)


class Entry(msgspec.Struct, frozen=True):
    """One bucket's owner, or a worker that stands by for it and has its rows a moment late.

    `opened_ms` orders entries of roles that had the same agent at different times.
    """

    url: str
    worker: str
    role: str
    bucket: int
    buckets: Annotated[int, msgspec.Meta(ge=1)]
    agents: tuple[str, ...]
    opened_ms: int = 0
    standby: bool = False


class Announcement(msgspec.Struct, frozen=True):
    """What a pipeline writes into the directory topic as it opens."""

    partition: TopicPartition
    key: bytes
    entry: Entry

    def of_agents(self, agents: tuple[str, ...]) -> Announcement:
        """The same, for what is really served."""
        return msgspec.structs.replace(self, entry=msgspec.structs.replace(self.entry, agents=agents))

    def value(self, now_ms: int) -> bytes:
        """The record's value."""
        return msgspec.json.encode(msgspec.structs.replace(self.entry, opened_ms=now_ms))

    async def tell(self, producer: TransactionalProducer, now_ms: int) -> None:
        """Write it, in a transaction of its own: readers see it when this returns."""
        outbox = Outbox(producer.new_batch)
        outbox.add_rows(self.partition, [(self.key, self.value(now_ms))])
        await outbox.produce(producer)
        await producer.commit()


class Directory:
    """The directory as this worker knows it. Read from any thread; written by `follow` alone."""

    def __init__(self, settings: Settings, topics: Topics) -> None:
        self._settings = settings
        self._partition = TopicPartition(topics.directory, 0)
        self._entries: dict[bytes, Entry] = {}

    def announcement(self, bucket: int, agents: Sequence[str], *, standby: bool = False) -> Announcement:
        """What the owner of `bucket` tells, or one that stands by for it."""
        s = self._settings
        entry = Entry(s.url, s.worker, s.role, bucket, s.buckets, tuple(agents), standby=standby)
        key = f"{s.role}/{bucket}/{s.worker}" if standby else f"{s.role}/{bucket}"
        return Announcement(self._partition, key.encode(), entry)

    def entries(self) -> list[Entry]:
        """All that is known, by role and bucket."""
        return sorted(self._entries.values(), key=lambda entry: (entry.role, entry.bucket))

    def owner(self, agent: str, partition: int) -> Entry | None:
        """Who serves `agent` in `partition`: the newest word, where several roles have had it."""
        return next(self._newest(agent, partition, standby=False), None)

    def standbys(self, agent: str, partition: int) -> list[Entry]:
        """Who stands by for `agent` in `partition`, the newest word first."""
        return list(self._newest(agent, partition, standby=True))

    def _newest(self, agent: str, partition: int, *, standby: bool) -> Iterator[Entry]:
        found = [
            entry
            for entry in tuple(self._entries.values())
            if entry.standby is standby and agent in entry.agents and entry.bucket == partition % entry.buckets
        ]
        return iter(sorted(found, key=lambda entry: -entry.opened_ms))

    def owners(self, agent: str, partitions: Iterable[int]) -> dict[int, Entry]:
        """The owners of several partitions; those without one are left out."""
        found = {number: self.owner(agent, number) for number in partitions}
        return {number: entry for number, entry in found.items() if entry is not None}

    async def follow(self, cluster: Cluster) -> None:
        """Read what is new, again and again, until cancelled. Unreadable brokers are waited for."""
        await follow_compacted(cluster, self._partition, self._note, None)

    async def load(self, cluster: Cluster) -> None:
        """Read what is there now, for whoever needs no more."""
        await read_compacted(cluster, self._partition, self._note)

    def _note(self, key: bytes | None, value: bytes | None) -> None:
        if key is None:
            return
        if value is None:
            self._entries.pop(key, None)
            return
        try:
            self._entries[key] = msgspec.json.decode(value, type=Entry)
        except NOT_JSON as error:
            log.warning("the directory holds an entry that is none: %r: %s", key, error)
