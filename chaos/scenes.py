"""The last scene: a topic is deleted and made again. The fleet must refuse, loudly, and wait for a person."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from app.catalogue import CATALOGUE
from app.runtime.kafka.admin import delete_topics, ensure_topics
from app.runtime.topics import Topics
from chaos.run import Say
from chaos.stage import Stage
from chaos.struck import Struck

KIND = "topic-made-again"
REFUSES_WITHIN_S = 60.0
LOOK_EVERY_S = 0.25
SAYS = "deleted and made again"


async def topic_made_again(stage: Stage, now: Callable[[], float], say: Say, violations: list[str]) -> Struck:
    """Delete the events of the orders and make them anew, empty: whoever reads them would take the new for old."""
    s = stage.settings
    topic = Topics(s.topic_prefix).events("orders")
    struck = Struck(KIND, topic, now(), now(), now())
    say(f"{now():6.1f} s  {KIND} …")
    await delete_topics(s.brokers, [topic])
    wanted = [one for one in CATALOGUE.topics(s) if one.name == topic]
    await ensure_topics(s.brokers, wanted, s.partitions, s.replication)
    struck.healed_s = struck.since_s = now()
    deadline_s = now() + REFUSES_WITHIN_S
    while silent := await asyncio.to_thread(_silent, stage):
        if now() > deadline_s:
            violations.append(
                f"{topic} was {SAYS}, and {', '.join(silent)} did not refuse within {REFUSES_WITHIN_S:.0f} s"
            )
            return struck
        await asyncio.sleep(LOOK_EVERY_S)
    struck.recovered_s = now()
    say(f"{now():6.1f} s  {KIND}: refused after {struck.recovery_ms} ms")
    return struck


def _silent(stage: Stage) -> list[str]:
    """Workers that serve a bucket, read the topic, and have not refused."""
    silent = []
    for name, worker in stage.workers.items():
        told = worker.readiness() or {}
        reads = worker.role in ("all", "chains", "reads", "commands")
        if reads and told.get("buckets") and not any(SAYS in refusal for refusal in told.get("refusals", ())):
            silent.append(name)
    return silent
