"""commands ─▶ deciding ─▶ events, outcomes: an aggregate decides, and its row is the snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from app.kernel import Aggregate, Envelope, Event, Outcome, Rejected
from app.kernel.envelope import version_conflict
from app.kernel.errors import UndecodableMessage
from app.kernel.window import in_reach, time_of
from app.runtime.agent import Agent
from app.runtime.codec import Codec
from app.runtime.ports import Record
from app.runtime.topics import Topics, partition_of
from app.runtime.unit import UnitOfWork
from tables.event_store import EventWriter
from tables.outcomes import OUTCOMES
from tables.snapshots import Snapshot

S = TypeVar("S")

SWEEP_EVERY_COMMANDS = 16
SWEEP_ROWS = 32
"""Two rows are looked at for every command: the remembered outcomes are swept faster than they come."""


def deciding_name(aggregate: Aggregate[Any, Any, Any]) -> str:
    """The agent's name: its changelog is named after it."""
    return f"deciding-{aggregate.category}"


def deciding(
    aggregate: Aggregate[Any, Any, Any], topics: Topics, *, partitions: int, outcome_retention_s: float
) -> Agent:
    """The agent that lets one kind of aggregate decide."""
    decider = _Decider(aggregate, topics, partitions, timedelta(seconds=outcome_retention_s))
    return Agent(
        name=deciding_name(aggregate),
        sources=(topics.commands(aggregate.category),),
        decode=decider.decode,
        fold=decider.fold,
        tables=(decider.writer.snapshots, OUTCOMES),
        ahead=decider.writer.snapshots,
        emits=(topics.events(aggregate.category), topics.outcomes(aggregate.category)),
        help=f"{aggregate.category}.commands → decide → {aggregate.category}.events, {aggregate.category}.outcomes",
    )


class _Decider(Generic[S]):
    def __init__(
        self, aggregate: Aggregate[S, Any, Any], topics: Topics, partitions: int, outcome_retention: timedelta
    ) -> None:
        self._aggregate = aggregate
        self._commands = Codec.of_commands(aggregate)
        self._outcomes_topic = topics.outcomes(aggregate.category)
        self._source = f"/eventfleet/{aggregate.category}"
        self.writer = EventWriter(aggregate, topics.events(aggregate.category), self._source)
        self._partitions = partitions
        self._sweep = _Sweep(outcome_retention)

    def decode(self, record: Record) -> Envelope[Any]:
        """The command; keyed and placed by its aggregate's id, or that aggregate would have two histories."""
        envelope = self._commands.decode(record.value)
        if record.key != envelope.stream_id.encode():
            raise UndecodableMessage("the record's key is not the aggregate's id")
        here, belongs = getattr(record, "partition", None), partition_of(record.key, self._partitions)
        if here is not None and here != belongs:
            raise UndecodableMessage(
                f"the key belongs to partition {belongs}, not {here}: use Kafka's default partitioner (murmur2)"
            )
        return envelope

    def fold(self, unit: UnitOfWork, record: Record, command: Envelope[Any]) -> None:
        """Decide once per command id; what a command was answered first is what its repetition is answered."""
        command_key = command.id.encode()
        if unit.get(OUTCOMES, command_key) is not None:
            return
        snapshot = self.writer.snapshot(unit, command.stream_id)
        decision, now = self._decide(snapshot, command), _came(record)
        if isinstance(decision, Rejected):
            outcome = _outcome(command, now, snapshot.version, (), decision)
        else:
            ids = self.writer.append(unit, decision, command, expected_version=snapshot.version)
            outcome = _outcome(command, now, snapshot.version + len(ids), tuple(ids), None)
        unit.put(OUTCOMES, command_key, outcome)
        value = self._commands.encode_outcome(outcome, self._source)
        unit.emit(self._outcomes_topic, command.stream_id.encode(), value)
        self._sweep.after(unit, now)

    def _decide(self, snapshot: Snapshot[S], command: Envelope[Any]) -> Sequence[Event] | Rejected:
        if command.version is not None and command.version != snapshot.version:
            return version_conflict(command.version, snapshot.version)
        return self._aggregate.decide(snapshot.state, command.message)


def _came(record: Record) -> datetime:
    """When the command came, by the brokers' clock: no sender's clock has its own outcome forgotten, or others'."""
    return time_of(in_reach(record.timestamp))


def _outcome(
    command: Envelope[Any], now: datetime, version: int, events: tuple[str, ...], rejected: Rejected | None
) -> Outcome:
    return Outcome(
        command.id,
        type(command.message).wire_name,
        command.stream_id,
        version,
        now,
        events,
        rejected,
        command.correlation_id or command.id,
    )


class _Sweep:
    """Forgets outcomes older than their retention, a few rows at a time."""

    def __init__(self, retention: timedelta) -> None:
        self._retention = retention
        self._commands: dict[int, int] = {}
        self._cursor: dict[int, bytes | None] = {}

    def after(self, unit: UnitOfWork, now: datetime) -> None:
        """Called after each command; every few, look at the next few rows."""
        count = self._commands[unit.partition] = self._commands.get(unit.partition, 0) + 1
        if count % SWEEP_EVERY_COMMANDS:
            return
        rows = unit.scan_committed(OUTCOMES, self._cursor.get(unit.partition), SWEEP_ROWS)
        self._cursor[unit.partition] = rows[-1][0] if len(rows) == SWEEP_ROWS else None
        for key, outcome in rows:
            if now - outcome.time > self._retention:
                unit.put(OUTCOMES, key, None)
