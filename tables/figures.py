"""What RocksDB holds in memory, for `/metrics`."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tables.budget import RocksDBBudget


class RocksDBCollector(Collector):
    """Read at each scrape from the budget that all stores of the process share."""

    def __init__(self, budget: RocksDBBudget) -> None:
        self._budget = budget

    def collect(self) -> Iterator[Metric]:
        """What is used, and what may be."""
        used = GaugeMetricFamily("eventfleet_rocksdb_bytes", "Memory that all stores use together", labels=["part"])
        limit = GaugeMetricFamily("eventfleet_rocksdb_bytes_max", "The budget of that part", labels=["part"])
        for part, (bytes_, bytes_max) in sorted(self._budget.usage().items()):
            used.add_metric([part], bytes_)
            limit.add_metric([part], bytes_max)
        yield from (used, limit)
