"""The reckoning after a run: the product's auditor, a recount that shares nothing with it, and the dead letters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from app.audit.reading import NotAudited
from app.audit.running import audit_once
from app.runtime.settings import Settings
from app.runtime.topics import Topics
from loadtest.reading import read_topic
from loadtest.recount import recount


@dataclass
class Reckoned:
    """What was looked at, and what is wrong."""

    records: int = 0
    violations: list[str] = field(default_factory=list)
    checks: dict[str, Any] = field(default_factory=dict)


async def reckon(settings: Settings, urls: Sequence[str], run: str, poison: int) -> Reckoned:
    """Audit and recount everything, with rules that share no code with the engine's, nor with one another."""
    topics, reckoned = Topics(settings.topic_prefix), Reckoned()
    await _audit(settings, reckoned)
    found = await recount(
        settings.brokers,
        topics.events("orders"),
        settings.partitions,
        urls,
        outcomes=topics.outcomes("orders"),
        run=run,
    )
    reckoned.records = found.log_events + found.outcomes + len(found.rows)
    reckoned.violations += [f"recount: {example}" for example in found.examples]
    if (more := found.mismatch_count - len(found.examples)) > 0:
        reckoned.violations.append(f"recount: and {more} further mismatches")
    reckoned.checks["recount"] = {
        "ok": not found.mismatch_count,
        "events": found.log_events,
        "outcomes": found.outcomes,
        "orders": len(found.rows),
    }
    await _count_poison(settings, topics, poison, reckoned)
    return reckoned


async def _audit(settings: Settings, reckoned: Reckoned) -> None:
    """What `fleet audit` says."""
    try:
        audit = await audit_once(settings.brokers, settings.topic_prefix)
    except NotAudited as error:
        reckoned.violations.append(f"audit: {error}")
        reckoned.checks["audit"] = {"ok": False}
        return
    reckoned.records += audit.records
    for verdict in audit.verdicts:
        reckoned.violations += [f"audit: {verdict.name}: {example}" for example in verdict.examples]
        if (more := verdict.violations - len(verdict.examples)) > 0:
            reckoned.violations.append(f"audit: {verdict.name}: and {more} further violations")
    reckoned.checks["audit"] = {
        "ok": audit.ok,
        "checked": audit.checked,
        "records": audit.records,
        "invariants": {verdict.name: verdict.checked for verdict in audit.verdicts},
        "dead_letters": {f"{agent}: {cause}": count for (agent, cause), count in sorted(audit.dead_letters.items())},
    }


async def _count_poison(settings: Settings, topics: Topics, sent: int, reckoned: Reckoned) -> None:
    """What is no command is neither lost nor doubled: each such record lies among the dead letters, once."""
    seen: set[tuple[int, int]] = set()
    count = 0
    for category in ("orders", "inventory"):
        async for raw in read_topic(settings.brokers, topics.dead_letters(f"deciding-{category}"), settings.partitions):
            count += 1
            seen.add((raw.partition, raw.offset))
    reckoned.records += count
    reckoned.checks["dead_letters"] = {"poison_sent": sent, "found": count}
    if count < sent:
        reckoned.violations.append(f"{sent} records of poison were sent, {count} lie among the dead letters")
