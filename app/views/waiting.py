"""`GET /chains/{name}`: the instances that wait, those that have waited longest first; with `?stuck=true` for too long.

And how many there are, for `/metrics`.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from urllib.parse import urlencode

import msgspec
from aiohttp import web
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.kernel.errors import StoreFailed
from app.runtime.ports import PartitionStore
from app.runtime.role import RoleApp
from app.views.operations import Answer, Operation, serve
from app.views.parameters import WaitingPage, parse
from app.views.places import Places, store_of
from app.views.problems import Problem, answer, not_ready
from app.views.served import ServedChain
from tables.chains import STANDINGS, WAITING, epoch_ms, waiting_key, waiting_of

STUCK_COUNTED_MAX = 1_000
"""Per partition: whether it is a thousand or a million, a person must look."""
STANDINGS_MAX = 50


class Waiter(msgspec.Struct, frozen=True):
    """One instance that waits."""

    id: str
    waiting_for: str
    since: datetime


class WaitersPage(msgspec.Struct, frozen=True):
    """A page: `next` is what to give as `after` for the next one, or `None` at the end."""

    items: list[Waiter]
    next: str | None


class WaitingViews:
    """One chain's waiting instances, gathered from every worker. Used in the web thread."""

    def __init__(self, places: Places, served: ServedChain) -> None:
        self._places = places
        self._name = served.chain.name
        self._agent = served.chaining
        self._stuck_after = timedelta(seconds=places.app.fleet_settings.chain_stuck_after)

    def add_to(self, web_app: web.Application) -> None:
        """Add the route."""
        told = Operation(
            "GET",
            f"/chains/{self._name}",
            f"Instances of {self._name} that wait, those that have waited longest first",
            {200: Answer("A page of them.", WaitersPage)},
            query=WaitingPage,
        )
        serve(web_app, told, self.page)

    async def page(self, request: web.Request) -> web.Response:
        """A page over all partitions, or over those that another worker asks for."""
        page = parse(request, WaitingPage)
        everywhere = range(self._places.partitions)
        wanted = list(everywhere) if page.partitions is None else [int(n) for n in page.partitions.split(",")]
        if unknown := [number for number in wanted if number not in everywhere]:
            raise Problem(422, "invalid_parameters", f"There are no partitions {unknown}")
        parts = await asyncio.gather(*(self._part(request, page, number) for number in wanted))
        waiters = sorted((one for part in parts for one in part), key=_order)[: page.limit]
        after = _cursor(waiters[-1]) if len(waiters) == page.limit else None
        return answer(WaitersPage(waiters, after))

    async def _part(self, request: web.Request, page: WaitingPage, number: int) -> list[Waiter]:
        shard = self._places.here(self._agent, number)
        if shard is not None:
            until = datetime.now(UTC) - self._stuck_after if page.stuck else None
            return list(_waiters(store_of(shard), page.after, page.limit, until))
        entry = self._places.owner(request, self._agent, number)
        query = {"limit": str(page.limit), "partitions": str(number), "stuck": str(page.stuck).lower()}
        query |= {"after": page.after} if page.after is not None else {}
        status, body, _ = await self._places.ask(entry, "GET", f"/chains/{self._name}?{urlencode(query)}")
        if status != 200:
            raise not_ready(f"worker {entry.worker} cannot serve partition {number} of {self._name} now")
        return msgspec.json.decode(body, type=WaitersPage).items


def _waiters(store: PartitionStore, after: str | None, limit: int, until: datetime | None) -> Iterator[Waiter]:
    start = None if after is None else WAITING.prefix + _key_of(after)
    for key, raw in store.scan(WAITING.prefix, start, limit):
        since, id_ = waiting_of(key[len(WAITING.prefix) :])
        if until is not None and since > until:
            return
        yield Waiter(id_, WAITING.decode(raw), since)


def _order(waiter: Waiter) -> bytes:
    return waiting_key(waiter.since, waiter.id)


def _cursor(waiter: Waiter) -> str:
    return f"{epoch_ms(waiter.since)}~{waiter.id}"


def _key_of(cursor: str) -> bytes:
    since, _, id_ = cursor.partition("~")
    return waiting_key(datetime.fromtimestamp(int(since) / 1000, UTC), id_)


class _Counted(NamedTuple):
    standings: Counter[str]
    stuck: int


class ChainCollector(Collector):
    """How many instances wait for what, and how many are stuck: of the partitions that this worker serves.

    A scrape costs one short scan for each partition, however many instances there are.
    """

    def __init__(self, app: RoleApp, chains: Iterable[ServedChain]) -> None:
        self._app = app
        self._chains = tuple(chains)

    def collect(self) -> Iterator[Metric]:
        """The two gauges."""
        standings = GaugeMetricFamily(
            "eventfleet_chain_instances",
            "Instances of a chain here, by what they wait for; those that are finished as well",
            labels=["chain", "waiting_for"],
        )
        stuck = GaugeMetricFamily(
            "eventfleet_chains_stuck",
            "Unfinished instances here that have waited for the same for longer than FLEET_CHAIN_STUCK_AFTER",
            labels=["chain"],
        )
        for served in self._chains:
            counted = self._count(served.chaining)
            for standing, count in sorted(counted.standings.items()):
                standings.add_metric([served.chain.name, standing], count)
            stuck.add_metric([served.chain.name], counted.stuck)
        yield from (standings, stuck)

    def _count(self, agent: str) -> _Counted:
        settings = self._app.fleet_settings
        until = datetime.fromtimestamp(time.time() - settings.chain_stuck_after, UTC)
        standings: Counter[str] = Counter()
        stuck = 0
        for number in range(settings.partitions):
            shard = self._app.holdings.shard(agent, number)
            if shard is None or (store := shard.store) is None:
                continue
            try:
                for key, raw in store.scan(STANDINGS.prefix, limit=STANDINGS_MAX):
                    standings[key[len(STANDINGS.prefix) :].decode()] += STANDINGS.decode(raw)
                stuck += sum(1 for _ in _waiters(store, None, STUCK_COUNTED_MAX, until))
            except StoreFailed:
                continue  # it moves to another worker at this moment
        return _Counted(standings, stuck)
