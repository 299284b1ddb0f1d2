"""Mutants of what follows from events: in order, each once, and what cannot be handled is kept."""

from __future__ import annotations

from simulation.mutants.mutant import Mutant, mutant

EVENTS: tuple[Mutant, ...] = (
    mutant(
        "no stream versions",
        "the version check of readers: repeated and early events are folded as they come",
        "agents.ordering:InOrder.admit",
        "if at is None:",
        "return [event]\n    if at is None:",
    ),
    mutant(
        "repeated events are folded",
        "the version check of readers: lower versions are not dropped",
        "agents.ordering:InOrder._arrivals",
        "if version <= last:",
        "if False:",
    ),
    mutant(
        "held events are dropped",
        "ordering: what came too early is not kept",
        "agents.ordering:InOrder._hold",
        "unit.put(HELD, held_key(stream, version), Held.of(record))",
        "pass",
    ),
    mutant(
        "parked keys are forgotten",
        "dead letters: what follows a poisoned record of a key is folded",
        "app.runtime.rounds:write_round",
        "shard.parked |= part.parked",
        "pass",
    ),
    mutant(
        "timers stay",
        "timers: one that has fired is not deleted",
        "agents.chaining:_Chainer._tick",
        "unit.put(TIMERS, key, None)",
        "pass",
    ),
    mutant(
        "alerts come twice",
        "alert ids: an event is told of twice",
        "agents.alerting:_raise",
        "unit.emit(topics.alerts",
        "unit.emit(topics.alerts, event.stream_id.encode(), _encode(wire)); unit.emit(topics.alerts",
    ),
    mutant(
        "timers fire early",
        "timers: a tick fires whatever is set",
        "agents.chaining:_Chainer._tick",
        "due > now",
        "False",
    ),
    mutant(
        "sent without correlation",
        "correlation: what a chain sends says no more what it belongs to",
        "agents.sending:Sending.send",
        "cause.correlation_id",
        "None",
    ),
    mutant(
        "rows begin anew",
        "re-keyed read models: each event begins the row again",
        "agents.projecting:_advance",
        "projection.project(before.row, event)",
        "projection.project(None, event)",
    ),
    mutant(
        "finals come twice",
        "windows: a final value is told of twice",
        "agents.gathering:Gathering.go_on",
        "self._emit(unit, figure)",
        "self._emit(unit, figure), self._emit(unit, figure)",
    ),
    mutant(
        "finals without the others",
        "windows: a source's last word replaces the other sources'",
        "agents.gathering:_OpenSpans.take",
        "self._merge(before.row, figure.row)",
        "figure.row",
    ),
    mutant(
        "standings only grow",
        "chains: who waits no more is counted on",
        "tables.chains:keep_standing",
        "_count(unit, old[0], -1)",
        "pass",
    ),
    mutant(
        "asks stay unanswered",
        "windows: a source that has come so far does not say so",
        "agents.windowing:_Windower._advance",
        "self._inbox.tell(unit, by, Passed(unit.partition, passed))",
        "pass",
    ),
    mutant(
        "what a bug has changed stays",
        "dead letters: a record that cannot be handled leaves its first half",
        "app.runtime.careful:CarefulFold._fold",
        'return RAISED, f"{type(error)',
        'self._folded.unit.absorb(nested); return RAISED, f"{type(error)',
    ),
    mutant(
        "what is folded with care is not sent",
        "the unit of work: derived records of a nested unit are lost",
        "app.runtime.unit:UnitOfWork.absorb",
        "self.emitted += nested.emitted",
        "pass",
    ),
)
