"""Mutants of liveness: everything that was sent is handled by and by, and nobody waits for ever."""

from __future__ import annotations

from simulation.mutants.mutant import Mutant, mutant

LIVENESS: tuple[Mutant, ...] = (
    mutant(
        "gaps are not sought back",
        "liveness: a batch behind a gap is refused, and nobody asks for what is missing",
        "app.runtime.pipeline:Pipeline._round",
        "await self._seek(source)",
        "pass",
    ),
    mutant(
        "open without a seek",
        "liveness: what was fetched before a pipeline ran is not asked for again",
        "app.runtime.pipeline:Pipeline._open",
        "self._seek_soon()",
        "pass",
    ),
    mutant(
        "resume without a seek",
        "liveness: what a rebalance made us drop is not asked for again",
        "app.runtime.pipeline:Pipeline.resume",
        "self._must_seek = self._must_announce = True",
        "pass",
    ),
    mutant(
        "futures are not settled",
        "liveness: whoever handed over a batch waits for ever",
        "app.runtime.pipeline:Pipeline._next_round",
        "settle(todo)",
        "pass",
    ),
    mutant(
        "an error drops the inbox unsettled",
        "liveness: whoever handed over a batch before an error waits for ever",
        "app.runtime.inbox:Inbox.drop",
        "settle(dropped)",
        "pass",
    ),
    mutant(
        "stores stay open",
        "liveness: a closing pipeline leaves its stores open for nobody",
        "app.runtime.pipeline:Pipeline._release",
        "shard.release()",
        "pass",
    ),
)
