"""The auditor as a process of its own: audits for ever, and shows its verdict to Prometheus and to probes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

from aiohttp import web
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from app.audit.auditor import Audit
from app.audit.reading import NotAudited
from app.audit.running import Auditing

RETRY_S = 2.0


class AuditCollector(Collector):
    """The last verdict. Before there is one, nothing but that it is missing."""

    def __init__(self) -> None:
        self.audit: Audit | None = None
        self.complete_at = time.monotonic()

    def note(self, audit: Audit) -> None:
        """A pass is complete."""
        self.audit, self.complete_at = audit, time.monotonic()

    def collect(self) -> Iterator[Metric]:
        """One metric after the other."""
        age = GaugeMetricFamily(
            "eventfleet_audit_age_seconds", "Since the last complete pass over all topics, or since the start"
        )
        age.add_metric([], time.monotonic() - self.complete_at)
        yield age
        if (audit := self.audit) is not None:
            yield from _verdict(audit)


def _verdict(audit: Audit) -> Iterator[Metric]:
    ok = GaugeMetricFamily("eventfleet_audit_ok", "1 where every promise was kept, 0 where one was broken")
    ok.add_metric([], float(audit.ok))
    violations = GaugeMetricFamily("eventfleet_audit_violations", "Violations of an invariant", labels=["invariant"])
    flying = GaugeMetricFamily(
        "eventfleet_audit_in_flight", "What is not finished yet, and no violation", labels=["invariant"]
    )
    checked = CounterMetricFamily("eventfleet_audit_checked", "What was checked", labels=["invariant"])
    for verdict in audit.verdicts:
        violations.add_metric([verdict.name], verdict.violations)
        flying.add_metric([verdict.name], verdict.in_flight)
        checked.add_metric([verdict.name], verdict.checked)
    records = CounterMetricFamily("eventfleet_audit_records", "Records that were read")
    records.add_metric([], audit.records)
    dead = GaugeMetricFamily(
        "eventfleet_audit_dead_letters", "Dead letters, by agent and cause", labels=["agent", "cause"]
    )
    for (agent, cause), count in sorted(audit.dead_letters.items()):
        dead.add_metric([agent, cause], count)
    yield from (ok, violations, flying, checked, records, dead)


async def serve(
    auditing: Auditing, host: str, port: int, *, every_s: float, say: Callable[[Audit | NotAudited], None]
) -> None:
    """Audit and serve until cancelled. `say` is told of each verdict, and of each pass that there is none of."""
    collector = AuditCollector()
    runner = web.AppRunner(_application(collector), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        while True:
            try:
                async for audit in auditing.follow(every_s):
                    collector.note(audit)
                    say(audit)
            except NotAudited as error:
                say(error)
            await asyncio.sleep(RETRY_S)
    finally:
        await runner.cleanup()


def _application(collector: AuditCollector) -> web.Application:
    registry = CollectorRegistry()
    registry.register(collector)
    for further in (ProcessCollector, PlatformCollector, GCCollector):
        further(registry=registry)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def alive(_: web.Request) -> web.Response:
        return web.json_response({"alive": True})

    async def ready(_: web.Request) -> web.Response:
        has_verdict = collector.audit is not None
        return web.json_response({"ready": has_verdict}, status=200 if has_verdict else 503)

    made = web.Application()
    made.router.add_get("/metrics", metrics)
    made.router.add_get("/healthz", alive)
    made.router.add_get("/readyz", ready)
    return made
