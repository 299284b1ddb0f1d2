"""Comparing two generations of a read model in one partition, while both are kept up to date."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import msgspec

from app.runtime.ports import PartitionStore

STANDS_STILL_LOOKS = 20
LOOKS_MAX = 100
LOOK_EVERY_S = 0.05
"""A row that differs while events are on their way is looked at again: for five seconds at most, or until it has stood
still in both generations for one."""

Sleep = Callable[[float], Awaitable[None]]


class Pair(NamedTuple):
    """A row in both generations, as stored; `None` where one has none."""

    live: bytes | None
    building: bytes | None

    @property
    def versions(self) -> tuple[int, int]:
        """How many events are in each."""
        return _part(self.live, "version") or 0, _part(self.building, "version") or 0

    @property
    def rows(self) -> tuple[Any, Any]:
        """What readers would see of each. Decoded without the row's type: a new release may not know old rows."""
        return _part(self.live, "row"), _part(self.building, "row")

    @property
    def agree(self) -> bool:
        """Whether readers would see no difference."""
        live, building = self.rows
        return self.live == self.building or bool(live == building)


class Compared(NamedTuple):
    """How many keys were looked at, which differ, and where to go on; `None` at the end."""

    keys: int
    different: dict[bytes, Pair]
    after: bytes | None


class Comparison:
    """Of one table in two stores. Each look at both is one step in the pipeline's own loop: no round is in between."""

    def __init__(self, live: PartitionStore, building: PartitionStore, prefix: bytes) -> None:
        self._live, self._building, self._prefix = live, building, prefix

    async def page(self, after: bytes | None, limit: int, sleep: Sleep) -> Compared:
        """Compare up to `limit` rows of each, and look again at those that differ until it is certain."""
        found = self._look(after, limit)
        open_, stood = dict(found.different), dict.fromkeys(found.different, 0)
        for _ in range(LOOKS_MAX):
            # With as many events in both it is certain at once: none is on its way.
            waiting = [key for key, pair in open_.items() if not pair.agree and not _certain(pair, stood[key])]
            if not waiting:
                break
            await sleep(LOOK_EVERY_S)
            for key in waiting:
                pair = Pair(self._live.get(key), self._building.get(key))
                stood[key] = stood[key] + 1 if pair == open_[key] else 0
                open_[key] = pair
        return found._replace(different={key: pair for key, pair in open_.items() if not pair.agree})

    def _look(self, after: bytes | None, limit: int) -> Compared:
        live = self._live.scan(self._prefix, after, limit)
        building = self._building.scan(self._prefix, after, limit)
        # What lies behind the last row of a full page may lie in the other's next page.
        ends = [rows[-1][0] for rows in (live, building) if len(rows) == limit]
        end = min(ends, default=None)
        mine, its = dict(live), dict(building)
        keys = [key for key in sorted(mine.keys() | its.keys()) if end is None or key <= end]
        pairs = {key: Pair(mine.get(key), its.get(key)) for key in keys}
        return Compared(len(keys), {key: pair for key, pair in pairs.items() if not pair.agree}, end)


def _certain(pair: Pair, stood: int) -> bool:
    live, building = pair.versions
    return live == building or stood >= STANDS_STILL_LOOKS


def _part(raw: bytes | None, name: str) -> Any:
    return None if raw is None else msgspec.msgpack.decode(raw).get(name)
