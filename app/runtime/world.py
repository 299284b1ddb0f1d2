"""Everything outside of a pipeline: what it reads and writes through, and who wants to know how far it has come."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from app.runtime.directory import Announcement
from app.runtime.opening import GroupOffset
from app.runtime.ports import Clock, Cluster, SourceControl, StoreFactory
from app.runtime.settings import Settings
from app.runtime.shard import Shard
from app.runtime.topics import Topics
from app.runtime.unit import Emitted

Rows = Mapping[bytes, bytes | None]
OnCommitted = Callable[[Shard, Rows], None]
OnRound = Callable[[Shard, Rows, Sequence[Emitted]], None]
OnEffect = Callable[[str], None]


@dataclass(frozen=True)
class World:
    """Everything outside of the pipeline that it needs."""

    cluster: Cluster
    stores: StoreFactory
    source: SourceControl
    group_offset: GroupOffset
    clock: Clock
    settings: Settings
    topics: Topics
    announcement: Announcement | None = None
    on_committed: OnCommitted = lambda shard, rows: None
    on_round: OnRound = lambda shard, rows, emitted: None
    on_effect: OnEffect = lambda name: None
