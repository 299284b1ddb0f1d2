"""Figures of the bus, the notifications and the live feed, for `/metrics`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.buses.contract import EventBus
from app.views.live.feed import Feed
from app.views.live.notifier import Notifier


class LiveCollector(Collector):
    """Read at each scrape from what they count."""

    def __init__(self, bus: EventBus, notifier: Notifier, feed: Feed) -> None:
        self._bus, self._notifier, self._feed = bus, notifier, feed

    def collect(self) -> Iterator[Metric]:
        """One metric after the other."""
        yield _gauge("eventfleet_bus_listening", "1 while the bus hears", float(self._bus.listening))
        events = CounterMetricFamily(
            "eventfleet_bus_events", "Events of the bus, by what became of them", labels=["status"]
        )
        counted = asdict(self._bus.stats)
        reconnects = counted.pop("reconnects")
        for status, count in counted.items():
            events.add_metric([status], count)
        yield events
        yield _counter("eventfleet_bus_reconnects", "Times the bus lost its connection", reconnects)
        told = CounterMetricFamily("eventfleet_notifications", "Changes that were told of, or not", labels=["status"])
        for status, count in sorted(self._notifier.stats.items()):
            told.add_metric([status], count)
        yield told
        feed = self._feed.stats
        yield _gauge("eventfleet_live_clients", "Clients of the live feed", feed.clients)
        yield _counter("eventfleet_live_refused", "Clients of the live feed that were one too many", feed.refused)
        yield _counter("eventfleet_live_slow_dropped", "Clients that were dropped as too slow", feed.slow_dropped)


def _gauge(name: str, about: str, value: float) -> Metric:
    metric = GaugeMetricFamily(name, about)
    metric.add_metric([], value)
    return metric


def _counter(name: str, about: str, value: float) -> Metric:
    metric = CounterMetricFamily(name, about)
    metric.add_metric([], value)
    return metric
