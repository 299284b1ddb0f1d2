"""All routes of a worker, in Faust's own web server, which runs in a thread of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiohttp import web
from prometheus_client.registry import Collector

from app.runtime.role import RoleApp
from app.views.admission import ADMISSION, Admission, AdmissionCollector, limit_requests
from app.views.chains import ChainViews
from app.views.commands import CommandViews
from app.views.commits import Commits
from app.views.generations import GenerationViews
from app.views.health import HealthViews
from app.views.histories import HistoryViews
from app.views.listings import ListingViews
from app.views.live.views import LiveViews, timelines
from app.views.metrics import MetricsViews
from app.views.openapi import OpenApiViews
from app.views.places import Places
from app.views.problems import problems
from app.views.read_models import ReadModelViews
from app.views.served import ServedAggregate, ServedChain, ServedReadModel, ServedWindow
from app.views.staleness import stale_queries
from app.views.waiting import ChainCollector
from app.views.windows import WindowViews

BODY_BYTES_MAX = 512 << 10

WEB_OPTIONS = {"client_max_size": BODY_BYTES_MAX, "middlewares": [problems, limit_requests, stale_queries]}
"""For Faust's `web_application_options`."""


def add_routes(
    app: RoleApp,
    aggregates: Sequence[ServedAggregate],
    chains: Sequence[ServedChain],
    read_models: Sequence[ServedReadModel],
    windows: Sequence[ServedWindow],
    *collectors: Collector,
) -> None:
    """Serve the command side, the histories, the chains, the read models, the windows, the probes and the metrics.

    `collectors`: of figures that are none of the views' own.
    """
    server: Any = app.web
    web_app: web.Application = server.web_app
    places, commits = Places(app), Commits()
    settings = app.fleet_settings
    admission = Admission(settings.requests_max, settings.outcome_wait_ms / 1000, app.flow)
    web_app[ADMISSION] = admission
    web_app.on_startup.append(places.serve)
    web_app.on_cleanup.append(places.close)
    app.commit_listeners.append(commits.committed)
    OpenApiViews().add_to(web_app)
    HealthViews(app).add_to(web_app)
    CommandViews(places, commits, admission, tuple(aggregates)).add_to(web_app)
    histories = {one.aggregate.category: HistoryViews(places, one) for one in aggregates}
    instances = [(chain, ChainViews(places, chain)) for chain in chains]
    for history in histories.values():
        history.add_to(web_app)
    for _, instance in instances:
        instance.add_to(web_app)
    for timeline in timelines(aggregates, histories, instances):
        timeline.add_to(web_app)
    for read_model in read_models:
        if (listing := read_model.projection.listing) is None:
            ReadModelViews(places, commits, read_model).add_to(web_app)
        else:
            ListingViews(places, read_model, listing).add_to(web_app)
    GenerationViews(places, read_models).add_to(web_app)
    all_windows = WindowViews(places, windows)
    all_windows.add_to(web_app)
    live = LiveViews(app, places, aggregates, read_models, all_windows)
    live.add_to(web_app)
    own = (ChainCollector(app, chains), AdmissionCollector(admission), live.collector)
    MetricsViews(app, *own, *collectors).add_to(web_app)
