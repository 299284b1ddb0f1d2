"""What an agent's rows, derived records and dead letters must be: its sources folded once, in order, by nothing clever.

No batches, no pipeline, no overlay, no restore: a dictionary, and one record after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from app.kernel.errors import UndecodableMessage
from app.runtime.agent import Agent
from app.runtime.simulated import SimulatedRecord
from app.runtime.unit import Emitted, UnitOfWork
from tables.memory import MemoryStore


@dataclass
class Refolded:
    """One agent in one partition. `dead` are the offsets of what could not be handled, with the cause."""

    rows: dict[bytes, bytes] = field(default_factory=dict)
    emitted: list[Emitted] = field(default_factory=list)
    dead: list[tuple[int, str]] = field(default_factory=list)


class _Rows(MemoryStore):
    """A dictionary of rows as a unit of work reads them."""

    def __init__(self, rows: dict[bytes, bytes]) -> None:
        super().__init__()
        self._rows = rows
        self.is_open = True


def refold(agent: Agent, partition: int, records: Iterable[SimulatedRecord]) -> Refolded:
    """Fold all records of the agent's one source."""
    found = Refolded()
    store, decode = _Rows(found.rows), agent.decode_of(agent.sources[0])
    parked: set[bytes] = set()
    for record in records:
        try:
            message = decode(record)
        except UndecodableMessage:
            found.dead.append((record.offset, "undecodable"))
            continue
        if record.key in parked:
            found.dead.append((record.offset, "parked"))
            continue
        unit = UnitOfWork(partition, store)
        try:
            agent.fold(unit, record, message)
        except Exception:  # noqa: BLE001 - whatever a handler raises parks its key
            found.dead.append((record.offset, "raised"))
            if record.key is not None:
                parked.add(record.key)
            continue
        for key, row in unit.changes():
            if row is None:
                found.rows.pop(key, None)
            else:
                found.rows[key] = row
        found.emitted += unit.emitted
    return found


def dead_of(records: Sequence[SimulatedRecord]) -> list[tuple[int, str]]:
    """The same, told by the headers of dead letters."""
    headers = [dict(record.headers) for record in records]
    return [(int(one["source-offset"]), one["cause"].decode()) for one in headers]
