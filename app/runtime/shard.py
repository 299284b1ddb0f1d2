"""A shard: one agent in one partition, with its store, its source positions and its parked sequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from app.runtime.agent import Agent
from app.runtime.ports import PartitionStore, TopicPartition

META_KEY = b"\x00meta"
FENCE_PREFIX = b"\x00fence:"
PARKED_PREFIX = b"\x00parked:"
ALONE_PREFIX = b"\x00alone:"
RESERVED_PREFIX = b"\x00"


class Meta(msgspec.Struct, frozen=True):
    """The engine's own row in every shard's changelog: where in its sources the shard stands, and who wrote that.

    `source_ids` are the topics' ids: a source that was deleted and made again has another, and positions mean nothing
    there. `told` are the group's offsets of sources in which the shard began after others: it may be behind them.
    """

    positions: dict[str, int]
    source_ids: dict[str, str]
    buckets: int
    transactional_id: str
    told: dict[str, int] = {}


_encode_meta = msgspec.msgpack.Encoder().encode
_decode_meta = msgspec.msgpack.Decoder(Meta).decode


@dataclass(eq=False)
class Shard:
    """One agent, one partition.

    `joined` is false while an agent that is far behind catches up with a consumer of its own: until it is near, the
    pipeline's batches pass it by. `restored`: it is served here, and its rows are as new as what was committed.
    `warm`: it was kept up to date for another worker, or for a pipeline that is just opening: rows a moment old.

    `positions` are those that a round has committed; `starts` tell where a first start in a source begins, but for 0.
    """

    agent: Agent
    partition: int
    store: PartitionStore | None = None
    log_id: str = ""
    positions: dict[str, int] = field(default_factory=dict)
    starts: dict[str, int] = field(default_factory=dict)
    told: dict[str, int] = field(default_factory=dict)
    source_ids: dict[str, str] = field(default_factory=dict)
    parked: set[bytes] = field(default_factory=set)
    joined: bool = True
    restored: bool = False
    warm: bool = False

    def position(self, topic: str) -> int:
        """The next source offset to fold."""
        at = self.positions.get(topic)
        return self.starts.get(topic, 0) if at is None else at

    def opened(self) -> PartitionStore:
        """The store, which must be open."""
        if self.store is None:
            raise RuntimeError(f"{self.agent.name}/{self.partition} has no open store")
        return self.store

    def meta(self, positions: dict[str, int], buckets: int, transactional_id: str) -> bytes:
        """The META row with the positions as they will be after a round."""
        return _encode_meta(
            Meta(
                {**self.starts, **self.positions, **positions},
                self.source_ids,
                buckets,
                transactional_id,
                self.told,
            )
        )

    def stored_meta(self) -> Meta | None:
        """The META row as it was restored."""
        raw = self.opened().get(META_KEY)
        return None if raw is None else _decode_meta(raw)

    def foreign_fences(self, transactional_id: str) -> list[str]:
        """The transactional ids, other than ours, that have ever opened this shard and were not adopted since."""
        rows = self.opened().scan(FENCE_PREFIX, limit=1_000)
        ids = [key[len(FENCE_PREFIX) :].decode() for key, _ in rows]
        return [found for found in ids if found != transactional_id]

    def waits_for_time(self) -> bool:
        """Whether there is a timer to come."""
        ticking, store = self.agent.ticking, self.store
        return ticking is not None and store is not None and bool(store.scan(ticking.timers.prefix, limit=1))

    def load_parked(self) -> None:
        """Read which keys' sequences are parked in the dead letters."""
        self.parked.clear()
        after: bytes | None = None
        while rows := self.opened().scan(PARKED_PREFIX, after, 1_000):
            self.parked.update(key[len(PARKED_PREFIX) :] for key, _ in rows)
            after = rows[-1][0]

    def release(self) -> None:
        """Close the store; what it holds stays on disk."""
        if self.store is not None:
            self.store.close()
            self.store = None
        self.restored = self.warm = False


def readers_of(shards: Sequence[Shard]) -> dict[TopicPartition, list[Shard]]:
    """By source partition: who reads it."""
    readers: dict[TopicPartition, list[Shard]] = {}
    for shard in shards:
        for topic in shard.agent.sources:
            readers.setdefault(TopicPartition(topic, shard.partition), []).append(shard)
    return readers
