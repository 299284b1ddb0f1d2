"""Events of a stream from the event store: from its index here, or from the worker that has it."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

import aiohttp
import msgspec

from agents.indexing import indexing_name
from app.runtime.role import RoleApp
from app.runtime.topics import partition_of
from tables.event_store import HISTORY, history_key

TIMEOUT_S = 5.0


class _Page(msgspec.Struct):
    events: list[msgspec.Raw]


class _Versioned(msgspec.Struct):
    version: int


_page_of = msgspec.json.Decoder(_Page).decode
_version_of = msgspec.json.Decoder(_Versioned).decode


class Histories:
    """Reads streams of any category. `categories` are by the first word of their events' names."""

    def __init__(self, app: RoleApp, categories: Mapping[str, str]) -> None:
        self._app = app
        self._categories = categories

    async def read(self, word: str, id_: str, after: int, limit: int) -> dict[int, bytes]:
        """The records of the `limit` versions above `after`, as they lie in the topic; those that are known."""
        category = self._categories[word]
        agent, partition = indexing_name(category), partition_of(id_, self._app.fleet_settings.partitions)
        shard = self._app.holdings.shard(agent, partition)
        if shard is not None:
            versions = range(after + 1, after + limit + 1)
            rows = shard.opened().get_many([HISTORY.prefix + history_key(id_, version) for version in versions])
            return {version: HISTORY.decode(row) for version, row in zip(versions, rows, strict=True) if row}
        owner = self._app.directory.owner(agent, partition)
        if owner is None or owner.worker == self._app.fleet_settings.worker:
            return {}
        path = f"/{category}/{quote(id_, safe='')}/history?after={after}&limit={limit}"
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(owner.url + path) as got:
            if got.status != 200:
                return {}
            page = _page_of(await got.read())
        return {_version_of(raw).version: bytes(raw) for raw in page.events}
