"""Mutants of positions: each record is folded once, from wherever a consumer, a store or a restart begins."""

from __future__ import annotations

from simulation.mutants.mutant import Mutant, mutant

POSITIONS: tuple[Mutant, ...] = (
    mutant(
        "no position check",
        "the position check: a batch behind a gap is folded",
        "app.runtime.rounds:Plan.take",
        "batch.start > at",
        "False",
    ),
    mutant(
        "a gap of one is tolerated",
        "the position check, by one record",
        "app.runtime.rounds:Plan.take",
        "batch.start > at",
        "batch.start > at + 1",
    ),
    mutant(
        "no trimming",
        "the position check: records before the position are folded again",
        "app.runtime.folded:new_records",
        "records[0].offset < position",
        "False",
    ),
    mutant(
        "progress one short",
        "positions: a batch counts as folded but for its last offset",
        "app.runtime.rounds:Plan.take",
        "[topic] = batch.end",
        "[topic] = batch.end - 1",
    ),
    mutant(
        "changelog positions one short",
        "positions: a store's progress lies before its last row",
        "app.runtime.outbox:Outbox.produce",
        "base + len(wave[partition])",
        "base + len(wave[partition]) - 1",
    ),
    mutant(
        "changelog positions one far",
        "positions: a store's progress lies behind rows that it lacks",
        "app.runtime.rounds:write_round",
        "Progress(position,",
        "Progress(position + 1,",
    ),
    mutant(
        "META tells old positions",
        "META: the row has the positions before the round",
        "app.runtime.shard:Shard.meta",
        "{**self.starts, **self.positions, **positions}",
        "{**positions, **self.starts, **self.positions}",
    ),
    mutant(
        "catching up skips",
        "catching up: it begins a few records too far",
        "app.runtime.catching_up:CatchUp._read_on",
        "max(shard.position(s.topic), bounds[s].begin)",
        "max(shard.position(s.topic), bounds[s].begin) + 3",
    ),
)
