"""Generations of read models: which one is read, which is being built beside it, which is on its way out.

`fleet.projections` is a compacted topic: projection → how it stands, written by `fleet projections` alone. Every worker
reads it before it opens anything and follows it from then on. A projection that was never rebuilt has no row there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Annotated

import msgspec

from app.runtime.codec import NOT_JSON
from app.runtime.compacted import follow_compacted, read_compacted
from app.runtime.ports import Cluster, Header, TopicPartition
from app.runtime.topics import Topics

log = logging.getLogger(__name__)

FIRST = 1
GENERATION_HEADER = "generation"

Generation = Annotated[int, msgspec.Meta(ge=FIRST, le=1_000_000)]


class Standing(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a projection stands. `since` is the time of the last change.

    ::

        live 1 ──rebuild──▶ live 1, building 2 ──switch──▶ live 2, retiring 1 ──▶ live 2
                                    └────────abort───────▶ live 1

    Numbers are never used again: `last` is the highest that there was.
    """

    live: Generation = FIRST
    building: Generation | None = None
    retiring: Generation | None = None
    last: Generation = FIRST
    since: datetime | None = None

    @property
    def running(self) -> tuple[int, ...]:
        """The generations that are kept up to date."""
        return tuple(number for number in (self.live, self.building, self.retiring) if number is not None)

    @property
    def gone(self) -> tuple[int, ...]:
        """The generations that there were."""
        return tuple(number for number in range(FIRST, self.last + 1) if number not in self.running)


Standings = Mapping[str, Standing]
"""By projection; those never rebuilt are left out."""

encode_standing = msgspec.json.Encoder().encode
AT_FIRST = Standing()


def generation_name(name: str, generation: int) -> str:
    """What a generation's agents and topics are called: the first as the projection itself."""
    return name if generation == FIRST else f"{name}.g{generation}"


def header_of(generation: int) -> list[Header]:
    """What marks a record that was brought to another key for one generation."""
    return [] if generation == FIRST else [(GENERATION_HEADER, str(generation).encode())]


def generation_in(headers: Iterable[Header]) -> int:
    """For which generation a record was brought to another key."""
    told = next((value for name, value in headers if name == GENERATION_HEADER), b"1")
    return int(told) if told.isdigit() else FIRST


class Generations:
    """The standings as this worker knows them. Read from any thread; written by `load` and `follow` alone."""

    def __init__(self, topics: Topics) -> None:
        self._partition = TopicPartition(topics.projections, 0)
        self._standings: Standings = {}
        self._position: int | None = None

    @property
    def standings(self) -> Standings:
        """All that is known."""
        return self._standings

    def of(self, projection: str) -> Standing:
        """How one projection stands."""
        return self._standings.get(projection, AT_FIRST)

    async def load(self, cluster: Cluster) -> None:
        """Read everything that is there."""
        self._position = await read_compacted(cluster, self._partition, self._note)

    async def follow(self, cluster: Cluster, changed: Callable[[], None]) -> None:
        """Read on until cancelled; `changed` is called after each change."""

        def note(key: bytes | None, value: bytes | None) -> None:
            before = self._standings
            self._note(key, value)
            if self._standings != before:
                changed()

        await follow_compacted(cluster, self._partition, note, self._position)

    def _note(self, key: bytes | None, value: bytes | None) -> None:
        try:
            name = (key or b"").decode()
            gone = {other: standing for other, standing in self._standings.items() if other != name}
            standing = {} if value is None else {name: msgspec.json.decode(value, type=Standing)}
        except NOT_JSON as error:
            log.warning("%s holds a standing that is none: %r: %s", self._partition.topic, key, error)
            return
        self._standings = gone | standing
