"""The composition root: `faust -A app.main worker` runs the role that FLEET_ROLE names."""

from __future__ import annotations

from functools import partial
from typing import Any

from agents.chaining import chaining_name
from agents.deciding import deciding_name
from agents.filling import GapFilling
from agents.histories import Histories
from agents.indexing import indexing_name
from agents.projecting import agents_of_generation, projecting_name
from agents.windowing import windowing_name
from app.catalogue import CATALOGUE, Catalogue
from app.kernel.messages import first_word
from app.runtime.clock import SystemClock
from app.runtime.garbage import calm_the_garbage_collector
from app.runtime.generations import FIRST, Standing
from app.runtime.kafka.cluster import KafkaCluster
from app.runtime.kafka.quiet import calm_clients
from app.runtime.kafka.reconnecting import pause_before_reconnecting
from app.runtime.kafka.sender import RecordSender
from app.runtime.role import RoleApp
from app.runtime.settings import Settings, load_settings
from app.views.routes import WEB_OPTIONS, add_routes
from app.views.served import ServedAggregate, ServedChain, ServedReadModel, ServedWindow
from tables.budget import RocksDBBudget
from tables.figures import RocksDBCollector
from tables.store import RocksDBStores


def make_app(settings: Settings, catalogue: Catalogue = CATALOGUE) -> RoleApp:
    """One worker's app: the role's agents, RocksDB stores, Kafka, and the views."""
    rebuilding = {projection.name: Standing(building=FIRST + 1) for projection in catalogue.projections}
    shards = len(catalogue.agents(settings, rebuilding)) * settings.partitions
    budget = RocksDBBudget.of(settings, stores=shards)
    app = RoleApp(
        settings,
        lambda standings: catalogue.agents(settings, standings),
        catalogue.sources(settings),
        cluster=KafkaCluster(settings.brokers, transaction_timeout_ms=settings.transaction_timeout_ms),
        stores=RocksDBStores(settings.data_dir, budget),
        clock=SystemClock(),
        **_faust_settings(settings),
    )
    chains = [ServedChain(chain, chaining_name(chain)) for chain in catalogue.chains]
    windows = [ServedWindow(window, windowing_name(window)) for window in catalogue.windows]
    read_models = _served_read_models(catalogue)
    add_routes(app, _served_aggregates(catalogue), chains, read_models, windows, RocksDBCollector(budget))
    app.upkeep["filling gaps"] = lambda: _fill_gaps(app, catalogue)
    return app


async def _fill_gaps(app: RoleApp, catalogue: Catalogue) -> None:
    """Bring what agents wait for in vain from the event store."""
    histories = Histories(app, {first_word(e.wire_name): a.category for a in catalogue.aggregates for e in a.events})
    sender = RecordSender(app.fleet_settings.brokers)
    patience_s, topic = app.fleet_settings.gap_patience, app.fleet_topics.redrive
    try:
        await GapFilling(
            app.holdings.served_shards, histories.read, sender.send, SystemClock(), topic, patience_s
        ).run()
    finally:
        await sender.close()


def _faust_settings(settings: Settings) -> dict[str, Any]:
    return {
        "datadir": settings.data_dir / "faust",
        "web_bind": settings.web_host,
        "web_host": settings.web_host,
        "web_port": settings.web_port,
        "web_in_thread": True,
        "web_tables_enabled": False,
        "web_router_enabled": False,
        "web_stats_enabled": False,
        "web_graph_enabled": False,
        "web_metrics_enabled": False,
        "web_application_options": WEB_OPTIONS,
        "worker_redirect_stdouts": False,
    }


def _served_aggregates(catalogue: Catalogue) -> list[ServedAggregate]:
    return [ServedAggregate(a, deciding_name(a), indexing_name(a.category)) for a in catalogue.aggregates]


def _served_read_models(catalogue: Catalogue) -> list[ServedReadModel]:
    by_category = {served.aggregate.category: served for served in _served_aggregates(catalogue)}
    return [
        ServedReadModel(p, by_category[p.category], partial(projecting_name, p), partial(agents_of_generation, p))
        for p in catalogue.projections
    ]


calm_clients()
pause_before_reconnecting()
app = make_app(load_settings())
calm_the_garbage_collector()
