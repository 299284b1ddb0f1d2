"""`/metrics` for Prometheus, made at each scrape from what the pipelines count: nothing is paid per event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from aiohttp import web
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from app.runtime.lifecycle import State
from app.runtime.role import RoleApp
from app.runtime.stats import DURATION_BOUNDS_S, Durations, PipelineStats
from app.views.agent_figures import agent_figures
from app.views.operations import Answer, Operation, serve

Total = tuple[str, str, Callable[[PipelineStats], float]]

TOTALS: tuple[Total, ...] = (
    ("eventfleet_records", "Source records folded, once per agent", lambda s: s.records),
    ("eventfleet_rounds", "Committed rounds: one transaction each", lambda s: s.rounds),
    ("eventfleet_pipeline_opens", "Times a pipeline was opened", lambda s: s.opens),
    ("eventfleet_pipeline_failures", "Errors that a pipeline recovered from", lambda s: s.failures),
    ("eventfleet_gaps", "Batches refused because they began behind the position", lambda s: s.gaps),
    ("eventfleet_batches_dropped", "Batches dropped to be fetched again", lambda s: s.batches_dropped),
    ("eventfleet_rows_restored", "Changelog and source records replayed while opening", lambda s: s.rows_restored),
    ("eventfleet_fold_seconds", "Time spent folding", lambda s: s.fold_s),
    ("eventfleet_produce_seconds", "Time spent waiting for produced records", lambda s: s.produce_s),
    ("eventfleet_commit_seconds", "Time spent waiting for transactions to commit", lambda s: s.commit_s),
    ("eventfleet_store_write_seconds", "Time spent writing the stores", lambda s: s.write_s),
)


class FleetCollector(Collector):
    """The figures of one worker."""

    def __init__(self, app: RoleApp) -> None:
        self._app = app

    def collect(self) -> Iterator[Metric]:
        """One metric after the other."""
        stats = list(self._app.holdings.stats.values())
        yield self._events(stats)
        yield self._durations(stats)
        yield self._lag()
        yield from self._totals()
        yield from self._states()
        yield from agent_figures(self._app)
        yield from self._warmth()

    def _events(self, stats: Iterable[PipelineStats]) -> Metric:
        metric = CounterMetricFamily(
            "events_processed", "Messages handled, by type and what became of them", labels=["event_type", "status"]
        )
        total: Counter[tuple[str, str]] = Counter()
        for one in stats:
            total.update(dict(one.events))
        for (kind, status), count in sorted(total.items()):
            metric.add_metric([kind, status], count)
        return metric

    def _durations(self, stats: Iterable[PipelineStats]) -> Metric:
        metric = HistogramMetricFamily(
            "event_processing_seconds",
            "From the start of a message's round until its rows can be read",
            labels=["event_type"],
        )
        merged: dict[str, Durations] = {}
        for one in stats:
            for kind, durations in list(one.durations.items()):
                into = merged.setdefault(kind, Durations())
                into.counts = [a + b for a, b in zip(into.counts, durations.counts, strict=True)]
                into.sum_s += durations.sum_s
        for kind, durations in sorted(merged.items()):
            metric.add_metric([kind], _buckets(durations), durations.sum_s)
        return metric

    def _lag(self) -> Metric:
        metric = GaugeMetricFamily(
            "events_lag", "Records that wait for this worker, over its partitions", labels=["consumer_group"]
        )
        metric.add_metric([self._app.fleet_settings.group], sum(self._app.lag.values()))
        return metric

    def _totals(self) -> Iterator[Metric]:
        for name, help_, figure in TOTALS:
            metric = CounterMetricFamily(name, help_, labels=["bucket"])
            for bucket, stats in sorted(self._app.holdings.stats.items()):
                metric.add_metric([str(bucket)], figure(stats))
            yield metric

    def _states(self) -> Iterator[Metric]:
        state = GaugeMetricFamily("eventfleet_pipeline_state", "1 for the pipeline's state", labels=["bucket", "state"])
        for bucket, pipeline in sorted(dict(self._app.holdings.pipelines).items()):
            for one in State:
                state.add_metric([str(bucket), str(one)], float(pipeline.state is one))
        torn = CounterMetricFamily("eventfleet_torn_buckets", "Buckets that came without all of their partitions")
        torn.add_metric([], self._app.holdings.torn)
        yield from (state, torn)

    def _warmth(self) -> Iterator[Metric]:
        restored = GaugeMetricFamily(
            "eventfleet_restored_ratio", "How far the pipeline's last opening has come, of 1", labels=["bucket"]
        )
        for bucket, stats in sorted(dict(self._app.holdings.stats).items()):
            restored.add_metric([str(bucket)], stats.restoring.share)
        warm = GaugeMetricFamily(
            "eventfleet_standby_caught_up", "1 where the rows of a bucket served elsewhere are warm", labels=["bucket"]
        )
        rows = CounterMetricFamily("eventfleet_standby_rows", "Rows taken over while standing by", labels=["bucket"])
        for bucket, standby in sorted(dict(self._app.holdings.standbys).items()):
            warm.add_metric([str(bucket)], float(standby.caught_up))
            rows.add_metric([str(bucket)], standby.rows)
        yield from (restored, warm, rows)


def _buckets(durations: Durations) -> list[tuple[str, float]]:
    bounds = [*(f"{bound:g}" for bound in DURATION_BOUNDS_S), "+Inf"]
    cumulative, buckets = 0, []
    for bound, count in zip(bounds, durations.counts, strict=True):
        cumulative += count
        buckets.append((bound, float(cumulative)))
    return buckets


class MetricsViews:
    """`/metrics`. The registry is the worker's own: nothing registers itself globally."""

    def __init__(self, app: RoleApp, *further: Collector) -> None:
        self._registry = CollectorRegistry()
        for own in (FleetCollector(app), *further):
            self._registry.register(own)
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)

    def add_to(self, web_app: web.Application) -> None:
        """Add the route."""
        says = Answer("Figures in Prometheus' text format.", {"type": "string"}, media="text/plain")
        serve(web_app, Operation("GET", "/metrics", "Figures", {200: says}, tag="worker", problems=()), self.metrics)

    async def metrics(self, _: web.Request) -> web.Response:
        """All figures in Prometheus' text format."""
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
