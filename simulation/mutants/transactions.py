"""Mutants of the transaction: all of a round or nothing of it, committed before it is written, read when committed."""

from __future__ import annotations

from simulation.mutants.mutant import Mutant, mutant

TRANSACTIONS: tuple[Mutant, ...] = (
    mutant(
        "read uncommitted",
        "read_committed: whoever reads a log sees open and aborted transactions",
        "app.runtime.simulated.log:PartitionLog.settled",
        "records = [entry.record for entry in entries if entry.record is not None and not _aborted(entry)]",
        "records = [entry.record for entry in entries if entry.record is not None]",
    ),
    mutant(
        "write before commit",
        "commit before write: stores are written when the transaction is still open",
        "app.runtime.pipeline:Pipeline._transact",
        "await producer.commit()",
        "list(write_round(plan, folded, self._terms, log_ends, clock.epoch_ms())); await producer.commit()",
    ),
    mutant(
        "rows after progress",
        "atomic writes: a crash may keep the progress of a write and lose its rows",
        "tables.memory:MemoryStore.write",
        "self._unflushed.append(({key: self._rows.get(key) for key in rows}, self._progress))",
        "self._unflushed.append(({key: self._rows.get(key) for key in rows}, progress))",
    ),
    mutant(
        "positions after the commit",
        "META in the transaction: source positions are kept in the store alone",
        "app.runtime.rounds:_fold",
        "rows.items())",
        "[row for row in rows.items() if row[0] != META_KEY])",
    ),
    mutant(
        "nobody awaits produces",
        "awaiting produces: a transaction is committed though a produce has failed",
        "app.runtime.simulated.producer:SimulatedProducer.produce",
        'bases = await self._request("produce", lambda: self._cluster.write(self.transactional_id, epoch, sent))',
        "ends = {p: log.end for p, _, _ in sent if (log := self._cluster.find(p))}; import asyncio; "
        'sending = asyncio.ensure_future(self._link.perform("produce", '
        "lambda: self._cluster.write(self.transactional_id, epoch, sent))); "
        "sending.add_done_callback(lambda done: done.cancelled() or done.exception()); bases = ends",
    ),
    mutant(
        "a failed commit goes on",
        "errors: a commit that failed counts as one",
        "app.runtime.pipeline:Pipeline._transact",
        "await producer.commit()",
        "await asyncio.gather(producer.commit(), return_exceptions=True)",
    ),
    mutant(
        "an unknown commit counts",
        "commit before write: one without an answer counts as done",
        "app.runtime.pipeline:Pipeline._transact",
        "await producer.commit()",
        "try: await producer.commit()\n        except Exception as error:\n"
        "            if 'no answer' not in str(error): raise",
    ),
    mutant(
        "told before the commit",
        "commit before anybody hears: views and the bus are told of rows that are not committed",
        "app.runtime.pipeline:Pipeline._transact",
        "await producer.commit()",
        "[self._world.on_round(shard, rows, ()) for shard, rows in folded.rows.items()]; await producer.commit()",
    ),
    mutant(
        "waves overwrite each other",
        "the outbox: a batch that is full is dropped for the next one",
        "app.runtime.outbox:Outbox._next",
        "wave + 1",
        "wave",
    ),
    mutant(
        "waves in disorder",
        "the outbox: later waves are sent first",
        "app.runtime.outbox:Outbox.produce",
        "in self._waves",
        "in reversed(self._waves)",
    ),
)
