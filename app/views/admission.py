"""Admission: what could not be answered in time is refused at once, with 503 and `Retry-After`.

Two limits. A worker has a bounded number of requests under way, so that their memory is bounded and none waits long.
And a command that would wait in its topic for longer than a client waits for its outcome is not produced at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from aiohttp import web
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.runtime.flow import Flow
from app.runtime.ports import TopicPartition
from app.views.problems import Handler, Problem

ALWAYS = ("/healthz", "/readyz", "/metrics", "/live")
"""Whoever watches an overloaded worker must get through. Streams of the live feed have a limit of their own."""
RETRY_S_MAX = 30


class Admission:
    """One worker's limits. Used in the web thread."""

    def __init__(self, requests_max: int, wait_s_max: float, flow: Flow) -> None:
        self.under_way = 0
        self.refused: dict[str, int] = {"requests": 0, "backlog": 0}
        self._requests_max = requests_max
        self._wait_s_max = wait_s_max
        self._flow = flow

    def check_backlog(self, source: TopicPartition) -> None:
        """Refuse a command whose topic has too long a backlog."""
        wait_s = self._flow.wait_s(source)
        if wait_s > self._wait_s_max:
            self.refused["backlog"] += 1
            retry_s = min(RETRY_S_MAX, math.ceil(wait_s - self._wait_s_max))
            raise Problem(
                503,
                "overloaded",
                f"Commands wait for about {wait_s:.0f} s at the moment: nothing was done, try again later",
                retry_after_s=retry_s,
            )

    def check_requests(self) -> None:
        """Refuse what would be one request too many."""
        if self.under_way >= self._requests_max:
            self.refused["requests"] += 1
            raise Problem(
                503, "overloaded", f"{self._requests_max} requests are under way already: try again", retry_after_s=1
            )


ADMISSION = web.AppKey("admission", Admission)


@web.middleware
async def limit_requests(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let in as many requests at a time as the worker's `Admission` allows."""
    if request.path in ALWAYS:
        return await handler(request)
    admission = request.app[ADMISSION]
    admission.check_requests()
    admission.under_way += 1
    try:
        return await handler(request)
    finally:
        admission.under_way -= 1


class AdmissionCollector(Collector):
    """The limits in figures."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    def collect(self) -> Iterator[Metric]:
        """One metric after the other."""
        under_way = GaugeMetricFamily("eventfleet_requests_under_way", "Requests that are being answered")
        under_way.add_metric([], self._admission.under_way)
        refused = CounterMetricFamily(
            "eventfleet_requests_refused", "Requests answered 503 at once, by the limit that was met", labels=["limit"]
        )
        for limit, count in sorted(self._admission.refused.items()):
            refused.add_metric([limit], count)
        yield from (under_way, refused)
