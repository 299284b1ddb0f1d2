"""The product's own auditor, on the topics that a scene has left: what `fleet audit` promises, under every fault."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from app.audit.auditor import Auditor
from app.audit.records import Kind, Seen, place_of, seen
from app.runtime.simulated import SimulatedRecord
from app.runtime.simulated.log import PartitionLog

if TYPE_CHECKING:
    from simulation.fleet import Fleet


UNCLAIMED = frozenset({"outcomes-claim-events", "causes-exist"})
"""What events that another system has written do not keep."""


def check_audit(fleet: Fleet) -> None:
    """Every invariant that the auditor has, all patience being over."""
    auditor = Auditor()
    auditor.take(_records(fleet))
    foreign = any(transaction is None for log in _event_logs(fleet) for _, transaction in log.decided())
    for verdict in auditor.audit(1.0).verdicts:
        if verdict.violations and not (foreign and verdict.name in UNCLAIMED):
            fleet.watch.report(f"the auditor finds {verdict.name}", verdict.examples[0])


def _event_logs(fleet: Fleet) -> list[PartitionLog]:
    return [log for category in fleet.categories for log in fleet.cluster.logs_of(fleet.topics.events(category))]


def _records(fleet: Fleet) -> Iterator[Seen]:
    for log in fleet.cluster.logs():
        if (place := place_of(log.topic, fleet.topics.prefix)) is None:
            continue
        records = [record for record, _ in log.decided()]
        for record in _once_in_order(records) if place.kind is Kind.EVENT else records:
            yield seen(place, record)


def _once_in_order(records: Sequence[SimulatedRecord]) -> Sequence[SimulatedRecord]:
    """Events as readers should take them: another system writes some repeatedly and in disorder."""
    at, early, found = Counter[str](), dict[tuple[str, int], SimulatedRecord](), list[SimulatedRecord]()
    for record in records:
        event = json.loads(record.value or b"")
        stream = event["subject"]
        early.setdefault((stream, event["version"]), record)
        while (turn := early.get((stream, at[stream] + 1))) is not None:
            at[stream] += 1
            found.append(turn)
    return found
