"""gaps ─▶ filling ─▶ fleet.redrive: what an agent waits for in vain is brought to it from the event store.

An event that is held back waits for a predecessor. Mostly that one is a moment late. Where it does not come (it lies in
dead letters or was given up there, a release could not read it, it was skipped knowingly), the event store has it. It
is sent as a record, through the topic that dead letters come back through: so it is folded in the agent's transactions,
and read again after a crash. When the real one comes, it is a duplicate.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from app.kernel.errors import FleetError
from app.runtime.dead_letters import Kind, Letter, instruction
from app.runtime.ports import Clock, Header, TopicPartition
from app.runtime.shard import Shard
from tables.held import GAPS, HELD, HOLDING, Gap, held_back, held_key

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
GAPS_PER_LOOK = 100
EVENTS_PER_FILL = 100
PATIENCE_S = 2.0
PATIENCE_S_MAX = 300.0
"""A gap that could not be filled is tried again after twice as long, but not rarer than this."""

History = Callable[[str, str, int, int], Awaitable[Mapping[int, bytes]]]
"""The events of a stream, by version: of an aggregate's first word and id, after a version, so many at most."""

Send = Callable[[TopicPartition, bytes | None, bytes, Sequence[Header]], Awaitable[object]]


class Found(NamedTuple):
    """One gap of one shard."""

    shard: Shard
    stream: bytes
    gap: Gap

    @property
    def name(self) -> tuple[str, int, bytes, int]:
        """It is another gap when the stream has gone on."""
        return self.shard.agent.name, self.shard.partition, self.stream, self.gap.last

    @property
    def missing(self) -> list[int]:
        """The versions that do not wait there, up to the last one that does."""
        before_last = range(self.gap.last + 1, self.gap.waiting[-1])
        missing = (version for version in before_last if version not in self.gap.waiting)
        return list(itertools.islice(missing, EVENTS_PER_FILL))


class _Noticed(NamedTuple):
    due_s: float
    patience_s: float


@dataclass
class GapFilling:
    """Looks after the gaps of the shards that are served here, again and again."""

    shards: Callable[[], Iterable[Shard]]
    history: History
    send: Send
    clock: Clock
    topic: str
    patience_s: float = PATIENCE_S
    _noticed: dict[tuple[str, int, bytes, int], _Noticed] = field(default_factory=dict)
    _cursors: dict[tuple[str, int], bytes] = field(default_factory=dict)

    async def run(self) -> None:
        """Look every second, until cancelled."""
        while True:
            await self.clock.sleep(LOOK_EVERY_S)
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001 - nothing is lost by it; the next look tries again
                log.info("gaps could not be looked after: %r", error)

    async def look(self) -> int:
        """Fill the gaps that have stayed for long enough; how many events were sent."""
        now, sent = self.clock.monotonic(), 0
        found = {gap.name: gap for gap in self._gaps()}
        self._noticed = {name: noticed for name, noticed in self._noticed.items() if name in found}
        for name, gap in found.items():
            noticed = self._noticed.setdefault(name, _Noticed(now + self.patience_s, self.patience_s))
            if noticed.due_s <= now:
                longer_s = min(noticed.patience_s * 2, PATIENCE_S_MAX)
                self._noticed[name] = _Noticed(now + longer_s, longer_s)
                sent += await self._fill(gap)
        return sent

    def _gaps(self) -> Iterator[Found]:
        for shard in self.shards():
            try:
                yield from self._gaps_of(shard)
            except FleetError as error:
                log.debug("%s/%s is being closed: %r", shard.agent.name, shard.partition, error)

    def _gaps_of(self, shard: Shard) -> Iterator[Found]:
        """The next few of a shard, in turn: some that cannot be filled hold up no others."""
        store = shard.store
        if store is None or HOLDING not in shard.agent.tables or not held_back(store):
            return
        at = shard.agent.name, shard.partition
        rows = store.scan(GAPS.prefix, self._cursors.get(at), GAPS_PER_LOOK)
        if len(rows) == GAPS_PER_LOOK:
            self._cursors[at] = rows[-1][0]
        else:
            self._cursors.pop(at, None)
        for key, raw in rows:
            yield Found(shard, key[len(GAPS.prefix) :], GAPS.decode(raw))

    async def _fill(self, found: Found) -> int:
        shard, stream, gap = found
        first = shard.opened().get(HELD.prefix + held_key(stream, gap.waiting[0]))
        missing = found.missing
        if first is None or not missing:
            return 0
        word, _, id_ = stream.decode().partition("/")
        events = await self.history(word, id_, missing[0] - 1, missing[-1] - missing[0] + 1)
        beside = HELD.decode(first)
        there = [version for version in missing if version in events]
        for version in there:
            letter = Letter(
                "gap",
                f"{stream.decode()} stands at version {gap.last}, and version {gap.waiting[0]} waits",
                shard.agent.name,
                beside.topic,
                shard.partition,
                beside.offset,
                beside.timestamp,
                f"{stream.decode()}@{version}",
            )
            headers = instruction(Kind.FILL, letter)
            await self.send(TopicPartition(self.topic, shard.partition), beside.key, events[version], headers)
        log.log(
            logging.INFO if there else logging.WARNING,
            "%s/%s waits for versions %s of %s: %d of them came from the event store",
            shard.agent.name,
            shard.partition,
            missing,
            stream.decode(),
            len(there),
        )
        return len(there)
