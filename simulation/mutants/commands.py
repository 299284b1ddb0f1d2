"""Mutants of commands: each is decided once, where it belongs, for the version that was expected."""

from __future__ import annotations

from simulation.mutants.mutant import Mutant, mutant

COMMANDS: tuple[Mutant, ...] = (
    mutant(
        "no expected version",
        "the version check of deciders: a stale expected version is not refused",
        "agents.deciding:_Decider._decide",
        "command.version != snapshot.version",
        "False",
    ),
    mutant(
        "no command ids",
        "command dedupe: a repeated command is decided again",
        "agents.deciding:_Decider.fold",
        "unit.get(OUTCOMES, command_key) is not None",
        "False",
    ),
    mutant(
        "commands lie astray",
        "placement: a command in another key's partition is decided there",
        "agents.deciding:_Decider.decode",
        "here is not None and here != belongs",
        "False",
    ),
    mutant(
        "random command ids",
        "derived ids: what a chain sends has another id each time",
        "agents.sending:Sending.send",
        'uuid.uuid5(NAMESPACE, f"{self._sender}|{cause.id}|{number}")',
        "uuid.uuid4()",
    ),
    mutant(
        "commands are sent astray",
        "placement: a chain sends to its own partition",
        "agents.sending:Sending.send",
        "partition=partition_of(key, self._partitions)",
        "partition=unit.partition",
    ),
    mutant(
        "ids are forgotten at once",
        "command dedupe: outcomes are swept before their retention is over",
        "agents.deciding:_Sweep.after",
        "now - outcome.time > self._retention",
        "True",
    ),
    mutant(
        "refusals are not remembered",
        "command dedupe: a refused command is decided again",
        "agents.deciding:_Decider.fold",
        "unit.put(OUTCOMES, command_key, outcome)",
        "outcome.accepted and unit.put(OUTCOMES, command_key, outcome)",
    ),
    mutant(
        "version 0 may be stale",
        "the version check of deciders: who expects a new stream is not refused",
        "agents.deciding:_Decider._decide",
        "command.version is not None",
        "command.version",
    ),
    mutant(
        "the last event alone counts",
        "snapshots: of a decision's events the earlier ones leave no trace",
        "tables.event_store:EventWriter.append",
        "evolve(state, event)",
        "evolve(snapshot.state, event)",
    ),
    mutant(
        "events share an id",
        "ids: all events of a decision have the same one",
        "tables.event_store:EventWriter.append",
        'f"{command.id}.{number}"',
        'f"{command.id}.0"',
    ),
)
