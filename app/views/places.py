"""Where the rows of a key are: in this worker, or at the worker that the directory names."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp
from aiohttp import web

from app.runtime.directory import Entry
from app.runtime.ports import PartitionStore
from app.runtime.role import RoleApp
from app.runtime.shard import Shard
from app.runtime.topics import partition_of
from app.views.problems import not_ready
from app.views.served import ServedReadModel
from app.views.staleness import FORWARDED, STALE, staleness

KEPT_HEADERS = ("Idempotency-Key", "If-None-Match", "Content-Type")
RETURNED_HEADERS = (
    "Content-Type",
    "ETag",
    "Location",
    "Retry-After",
    "Eventfleet-Position",
    "Eventfleet-Worker",
    STALE,
)
FORWARD_MARGIN_S = 2.0


class Places:
    """Finds shards, and forwards requests to the worker that has them. Used in the web thread."""

    def __init__(self, app: RoleApp) -> None:
        self.app = app
        self._session: aiohttp.ClientSession | None = None

    async def serve(self, _: web.Application) -> None:
        """Called by aiohttp as the web server starts."""
        timeout = aiohttp.ClientTimeout(total=self.app.fleet_settings.outcome_wait_ms / 1000 + FORWARD_MARGIN_S)
        self._session = aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit_per_host=256))

    async def close(self, _: web.Application) -> None:
        """Called by aiohttp as the web server stops."""
        if self._session is not None:
            await self._session.close()

    @property
    def partitions(self) -> int:
        """How many partitions every keyed topic has."""
        return self.app.fleet_settings.partitions

    def partition(self, key: str) -> int:
        """The partition of an aggregate's id."""
        return partition_of(key, self.partitions)

    def live(self, served: ServedReadModel) -> str:
        """The agent whose rows of a read model are read now. Ask once for each request: it may change at any time."""
        return served.agent_of(self.app.generations.of(served.projection.name).live)

    def here(self, agent: str, partition: int) -> Shard | None:
        """The open shard, where this worker has it; of a query that is tried again, the standby's."""
        shard, stale = self.app.holdings.shard(agent, partition), staleness()
        if shard is None and stale.allowed and (shard := self.app.holdings.standby_shard(agent, partition)) is not None:
            stale.used = True
        return shard

    def owner(self, request: web.Request, agent: str, partition: int) -> Entry:
        """The other worker that has it; 503 while nobody is known to."""
        me, stale = self.app.fleet_settings.worker, staleness()
        entry = self.app.directory.owner(agent, partition)
        if stale.allowed and (entry is None or entry.worker == me or entry.url in stale.failed):
            others = (e for e in self.app.directory.standbys(agent, partition) if e.url not in stale.failed)
            entry = next((e for e in others if e.worker != me), None)
        if entry is None or entry.worker == me or FORWARDED in request.headers:
            raise not_ready(f"{agent}/{partition} is on its way to another worker or still being restored")
        return entry

    async def forward(
        self, request: web.Request, agent: str, partition: int, headers: Mapping[str, str] | None = None
    ) -> web.Response:
        """Let the owner answer the whole request."""
        entry = self.owner(request, agent, partition)
        passed = {name: request.headers[name] for name in KEPT_HEADERS if name in request.headers}
        status, body, returned = await self.ask(
            entry, request.method, request.path_qs, await request.read(), passed | dict(headers or {})
        )
        return web.Response(status=status, body=body, headers=returned)

    async def ask(
        self, entry: Entry, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes, dict[str, str]]:
        """Another worker's answer: status, body, headers. 503 where it cannot be reached."""
        if self._session is None:
            raise not_ready("the worker is starting")
        stale = staleness()
        marked = {FORWARDED: self.app.fleet_settings.worker, **(headers or {})}
        if stale.allowed:
            marked[STALE] = "accepted"
        try:
            async with self._session.request(method, entry.url + path, data=body or None, headers=marked) as got:
                returned = {name: got.headers[name] for name in RETURNED_HEADERS if name in got.headers}
                stale.used = stale.used or STALE in returned
                if got.status == 503:
                    stale.failed.add(entry.url)
                return got.status, await got.read(), returned
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            stale.failed.add(entry.url)
            raise not_ready(f"worker {entry.worker} cannot be reached now: {type(error).__name__}") from error


def store_of(shard: Shard) -> PartitionStore:
    """The shard's store; 503 where it is being closed at this moment."""
    store = shard.store
    if store is None or not (shard.restored or shard.warm):
        raise not_ready(f"{shard.agent.name}/{shard.partition} is moving")
    return store


def position_of(shard: Shard) -> str:
    """How far the shard has come in its sources. Take it before the row: the row is then at least that new."""
    positions = sorted((topic, at) for topic, at in shard.positions.items() if topic != shard.agent.redrive)
    return ",".join(f"{topic}/{shard.partition}@{at}" for topic, at in positions)
