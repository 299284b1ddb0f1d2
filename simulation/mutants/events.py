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
)
