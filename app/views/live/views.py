"""Everything live on one worker, wired together: the bus, the notifier, the feed, the pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from aiohttp import web

from app.buses.chosen import make_bus
from app.buses.event import BusEvent
from app.domain.order import ORDER
from app.projections.orders import ORDERS
from app.runtime.background import Background
from app.runtime.clock import SystemClock
from app.runtime.kafka.cluster import KafkaCluster
from app.runtime.role import RoleApp
from app.views.chains import ChainViews
from app.views.histories import HistoryViews
from app.views.live.activity import Activity
from app.views.live.assets import add_assets
from app.views.live.feed import Feed
from app.views.live.figures import LiveCollector
from app.views.live.html import html_answer, wants_html
from app.views.live.live_page import live_page, live_part
from app.views.live.notifier import Notifier
from app.views.live.pulse import PulseViews
from app.views.live.snapshot import Snapshot, Snapshots
from app.views.live.timeline import TimelineViews
from app.views.operations import Answer, Operation, serve
from app.views.parameters import Parameters, parse
from app.views.places import Places
from app.views.problems import answer
from app.views.served import ServedAggregate, ServedChain, ServedReadModel
from app.views.windows import WindowViews


class Part(Parameters):
    """`part=live` asks for what changes on the page alone."""

    part: Literal["live"] | None = None


class LiveViews:
    """The live side of a worker. All of it runs in the web thread but for what listens to rounds."""

    def __init__(
        self,
        app: RoleApp,
        places: Places,
        aggregates: Sequence[ServedAggregate],
        read_models: Sequence[ServedReadModel],
        windows: WindowViews,
    ) -> None:
        settings, topics = app.fleet_settings, app.fleet_topics
        self._cluster = KafkaCluster(settings.brokers)
        self._tails = [topics.events(ORDER.category), topics.alerts]
        self._partitions = settings.partitions
        self.bus = make_bus(settings)
        indexing = {one.indexing: one.aggregate.category for one in aggregates}
        self.notifier = Notifier(self.bus, indexing, topics.alerts)
        self.feed = Feed(settings.live_clients_max)
        self._pulse = PulseViews(app, next(a.indexing for a in aggregates if a.aggregate is ORDER))
        self._activity = Activity()
        orders = next(one for one in read_models if one.projection.name == ORDERS.name)
        self._snapshots = Snapshots(places, self._pulse, self._activity, windows, orders)
        self.collector = LiveCollector(self.bus, self.notifier, self.feed)
        self._background = Background(SystemClock())
        self.bus.subscribe(self._hear)
        app.round_listeners += [self.notifier.round_done, self._pulse.round_done]

    def add_to(self, web_app: web.Application) -> None:
        """Add the routes, and begin and end with the web server."""
        says = {200: Answer("The figures, or the page for browsers.", Snapshot)}
        told = Operation("GET", "/", "The fleet as it is now", says, tag="live", query=Part)
        serve(web_app, told, self.get)
        self._pulse.add_to(web_app)
        self.feed.add_to(web_app)
        add_assets(web_app)
        web_app.on_startup.append(self._begin)
        web_app.on_cleanup.append(self._end)

    async def get(self, request: web.Request) -> web.Response:
        """The live page for browsers, or the part of it that changes; the same figures as JSON for all others."""
        part = parse(request, Part).part
        snapshot = await self._snapshots.get(request)
        if not wants_html(request):
            return answer(snapshot, headers={"Cache-Control": "no-store", "Vary": "Accept"})
        return html_answer(live_part(snapshot) if part == "live" else live_page(snapshot))

    async def _hear(self, event: BusEvent) -> None:
        """One subscription for both: each would have a consumer of its own."""
        await self._activity.hear(event)
        await self.feed.hear(event)

    async def _begin(self, _: web.Application) -> None:
        await self.bus.start()
        self._background.keep("publishing notifications", self.notifier.run)
        self._background.keep(
            "reading what happened before",
            lambda: self._activity.begin(self._cluster, self._tails, self._partitions),
        )

    async def _end(self, _: web.Application) -> None:
        await self._background.stop()
        await self.bus.stop()
        await self._cluster.close()


def timelines(
    aggregates: Sequence[ServedAggregate],
    histories: Mapping[str, HistoryViews],
    chains: Sequence[tuple[ServedChain, ChainViews]],
) -> list[TimelineViews]:
    """The timelines of every category, with the chains that begin there."""
    return [
        TimelineViews(
            one.aggregate.category,
            histories[one.aggregate.category],
            {served.chain.name: views for served, views in chains if served.chain.home is one.aggregate},
        )
        for one in aggregates
    ]
