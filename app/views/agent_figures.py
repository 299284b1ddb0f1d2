"""What `/metrics` tells of each agent: what it counts itself, what it holds back, what is parked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from app.kernel.errors import StoreFailed
from app.runtime.role import RoleApp
from app.runtime.shard import Shard
from tables.held import HOLDING, held_back

COUNTED = {
    "duplicates_dropped": "Events that were folded before and came again",
    "events_filled": "Events that a source lacked and that were brought from the event store",
    "fills_failed": "Events from the event store that could not be folded",
    "no_event_skipped": "Records of an events topic that have no envelope: they are not in the event store's index",
    "events_held_back": "Events that came before one of their predecessors and had to wait for it",
    "late_events": "Events that came after their window had closed",
}
"""What agents are known to count. Whatever else they count is told, too."""


def agent_figures(app: RoleApp) -> Iterator[Metric]:
    """One metric after the other, each by agent."""
    yield from _counted(app)
    parked: Counter[str] = Counter()
    held: Counter[str] = Counter()
    for pipeline in list(app.holdings.pipelines.values()):
        for shard in pipeline.shards:
            parked[shard.agent.name] += len(shard.parked)
            if HOLDING in shard.agent.tables:
                held[shard.agent.name] += _held_back(shard)
    yield _gauge("eventfleet_parked_keys", "Keys whose records go to the dead letters", parked)
    yield _gauge("eventfleet_held_back_events", "Events that wait for a predecessor now", held)


def _counted(app: RoleApp) -> Iterator[Metric]:
    by_name: dict[str, Counter[str]] = {name: Counter() for name in COUNTED}
    for stats in list(app.holdings.stats.values()):
        for (agent, name), count in list(stats.counts.items()):
            by_name.setdefault(name, Counter())[agent] += count
    for name, counts in by_name.items():
        help_ = COUNTED.get(name, "Counted by the agent")
        metric = CounterMetricFamily(f"eventfleet_{name}", help_, labels=["agent"])
        for agent, count in sorted(counts.items()):
            metric.add_metric([agent], count)
        yield metric


def _held_back(shard: Shard) -> int:
    try:
        return 0 if shard.store is None else held_back(shard.store)
    except StoreFailed:
        return 0  # it is being closed: its next owner tells


def _gauge(name: str, help_: str, by_agent: Counter[str]) -> Metric:
    metric = GaugeMetricFamily(name, help_, labels=["agent"])
    for agent, count in sorted(by_agent.items()):
        metric.add_metric([agent], count)
    return metric
