"""Probes: `/healthz` says whether the process lives, `/readyz` whether it serves."""

from __future__ import annotations

import time
from typing import Any

from aiohttp import web

from app.runtime.lifecycle import State
from app.runtime.role import RoleApp
from app.views.operations import Answer, Operation, serve
from app.views.problems import RETRY_AFTER_S, answer

PULSE_AGE_S_MAX = 60.0
"""A worker whose loop has not turned for so long hangs. A restore yields between chunks, a round has a deadline."""


BROKERS_SILENT_S_MAX = 8.0
"""A worker whose brokers are silent for longer is not ready: it can decide nothing, though it could answer reads."""


class HealthViews:
    """The probes. A worker without brokers or in a restore is healthy, but not ready: killing it would not help."""

    def __init__(self, app: RoleApp) -> None:
        self._app = app

    def add_to(self, web_app: web.Application) -> None:
        """Add the routes."""
        healthy = {"type": "object", "required": ["healthy", "pulse_age_s"]}
        said: dict[int, Answer] = {200: Answer("It lives.", healthy), 500: Answer("It hangs.", healthy)}
        told = Operation("GET", "/healthz", "Whether the process lives", said, tag="worker", problems=())
        serve(web_app, told, self.healthz)
        ready = {"type": "object", "required": ["ready", "role", "worker", "waiting_for", "buckets"]}
        said = {200: Answer("It serves.", ready), 503: Answer("Not yet: see `waiting_for`.", ready, ["Retry-After"])}
        told = Operation("GET", "/readyz", "Whether the worker serves", said, tag="worker", problems=())
        serve(web_app, told, self.readyz)

    async def healthz(self, _: web.Request) -> web.Response:
        """200 while the worker's event loop turns."""
        age_s = time.monotonic() - self._app.pulse
        healthy = not self._app.assigned or age_s < PULSE_AGE_S_MAX
        return answer({"healthy": healthy, "pulse_age_s": round(age_s, 3)}, status=200 if healthy else 500)

    async def readyz(self, _: web.Request) -> web.Response:
        """200 when the group has given this worker its share, and all of it is restored and running."""
        app = self._app
        pipelines = {
            bucket: app.holdings.pipelines[bucket] for bucket in app.held_buckets() if bucket in app.holdings.pipelines
        }
        waiting_for = self._waiting_for()
        ready = waiting_for is None and all(p.ready for p in pipelines.values())
        settings = app.fleet_settings
        body: dict[str, Any] = {
            "ready": ready,
            "role": settings.role,
            "worker": settings.worker,
            "url": settings.url,
            "waiting_for": waiting_for,
            "refusals": app.refusals,
            "buckets": {
                str(bucket): {
                    "state": str(pipeline.state),
                    "last_error": pipeline.stats.last_error,
                    "restoring": str(pipeline.stats.restoring) if pipeline.state is State.OPENING else None,
                    "positions": {f"{p.topic}/{p.partition}": at for p, at in pipeline.source_positions().items()},
                }
                for bucket, pipeline in pipelines.items()
            },
            "lag": sum(app.lag.values()),
            "standbys": {
                str(bucket): {"caught_up": standby.caught_up, "behind": standby.behind, "rows": standby.rows}
                for bucket, standby in sorted(dict(app.holdings.standbys).items())
            },
        }
        return answer(body) if ready else answer(body, status=503, headers={"Retry-After": str(RETRY_AFTER_S)})

    def _waiting_for(self) -> str | None:
        app = self._app
        if app.gate.waiting_for is not None:
            return str(app.gate.waiting_for)
        if not app.assigned:
            return "the consumer group"
        if app.held_buckets() and app.brokers_silent_s > BROKERS_SILENT_S_MAX:
            return f"the brokers: no answer for {app.brokers_silent_s:.0f} s"
        return None
