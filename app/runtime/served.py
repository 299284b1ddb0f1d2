"""What a pipeline serves: its shards by the sources that they read, and those that it is asked to serve instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from app.runtime.ports import TopicPartition
from app.runtime.shard import Shard, readers_of


class Served:
    """The shards that are served `now`, and those that are `wanted`: the pipeline changes over between two rounds."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.now: tuple[Shard, ...] = tuple(shards)
        self.wanted = self.now
        self.readers: Mapping[TopicPartition, Sequence[Shard]] = readers_of(self.now)

    @property
    def changing(self) -> bool:
        """Whether others are wanted than those that are served."""
        return self.wanted is not self.now

    @property
    def settled(self) -> bool:
        """Whether what is served is what is wanted, and nobody is far behind."""
        return not self.changing and all(shard.joined for shard in self.now)

    def want(self, shards: Sequence[Shard]) -> bool:
        """Ask for these. Whether they are others than were asked for."""
        if set(shards) == set(self.wanted):
            return False
        self.wanted = tuple(shards)
        return True

    def take(self, wanted: tuple[Shard, ...], *, but: Sequence[Shard] = ()) -> None:
        """Serve what was `wanted` from now on, but for some. What was asked for meanwhile still is."""
        self.now = tuple(shard for shard in wanted if shard not in but) if but else wanted
        if self.wanted is wanted:
            self.wanted = self.now
        self.readers = readers_of(self.now)

    def known(self) -> Sequence[Shard]:
        """Those that are served and those that are wanted, each once."""
        return tuple(dict.fromkeys((*self.now, *self.wanted)))

    def positions(self) -> dict[TopicPartition, int]:
        """Per source the position that every agent has passed."""
        return {source: min(s.position(source.topic) for s in shards) for source, shards in self.readers.items()}

    def committed_positions(self) -> dict[TopicPartition, int]:
        """Those of them that rounds have committed."""
        at = {source: min(s.positions.get(source.topic, 0) for s in shards) for source, shards in self.readers.items()}
        return {source: position for source, position in at.items() if position}

    def next_offset(self, source: TopicPartition) -> int | None:
        """From where on the source is to be fetched; `None` where everybody who reads it catches up by itself."""
        return min((shard.position(source.topic) for shard in self.readers[source] if shard.joined), default=None)

    def __iter__(self) -> Iterator[Shard]:
        return iter(self.now)
