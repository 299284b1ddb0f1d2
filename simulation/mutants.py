"""Mutants: the engine with one safeguard switched off. Each must be noticed.

A mutant is a small change of the source of one function, made while it runs: there are no switches in the product.
"""

from __future__ import annotations
import __future__

import contextlib
import importlib
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any


class MutantOutdated(Exception):
    """The code that a mutant changes is not there any more: write the mutant anew."""


@dataclass(frozen=True)
class Change:
    """In the source of `target` (module:function) `old`, which is there once, becomes `new`."""

    target: str
    old: str
    new: str

    @contextlib.contextmanager
    def made(self) -> Iterator[None]:
        """The change, for a while, for everybody who has the function."""
        function = self._function()
        before = function.__code__
        function.__code__ = self._changed(function)
        try:
            yield
        finally:
            function.__code__ = before

    def _function(self) -> FunctionType:
        module, _, path = self.target.partition(":")
        found: Any = importlib.import_module(module)
        for name in path.split("."):
            found = inspect.getattr_static(found, name) if inspect.isclass(found) else getattr(found, name)
        if isinstance(found, property):
            found = found.fget
        if isinstance(found, classmethod | staticmethod):
            found = found.__func__
        assert isinstance(found, FunctionType), self.target
        return found

    def _changed(self, function: FunctionType) -> CodeType:
        source = textwrap.dedent(inspect.getsource(function))
        if source.count(self.old) != 1:
            raise MutantOutdated(f"{self.old!r} is {source.count(self.old)} times in {self.target}")
        flags = __future__.annotations.compiler_flag
        changed = compile(source.replace(self.old, self.new), f"<mutant of {self.target}>", "exec", flags, True)
        return next(c for c in changed.co_consts if isinstance(c, CodeType) and c.co_name == function.__name__)


@dataclass(frozen=True)
class Mutant:
    """`disables` says what is off."""

    name: str
    disables: str
    changes: tuple[Change, ...]

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """All of its changes, for a while."""
        with contextlib.ExitStack() as stack:
            for change in self.changes:
                stack.enter_context(change.made())
            yield


def mutant(name: str, disables: str, target: str, old: str, new: str) -> Mutant:
    """A mutant of one change."""
    return Mutant(name, disables, (Change(target, old, new),))


MUTANTS: tuple[Mutant, ...] = (
    mutant(
        "no epochs",
        "fencing: the cluster takes whatever an older producer of the transactional id sends",
        "app.runtime.simulated.cluster:SimulatedCluster._check_epoch",
        "!= epoch",
        "< epoch",
    ),
    mutant(
        "an id per worker",
        "fencing: every worker has transactional ids of its own, nobody fences anybody",
        "app.runtime.settings:Settings.transactional_id",
        'f"{self.group}-{bucket}"',
        'f"{self.group}-{bucket}-{self.worker}"',
    ),
    Mutant(
        "an id per worker, adopting",
        "fencing: the same, and foreign fence rows do not matter",
        (
            Change(
                "app.runtime.settings:Settings.transactional_id",
                'f"{self.group}-{bucket}"',
                'f"{self.group}-{bucket}-{self.worker}"',
            ),
            Change("app.runtime.shard:Shard.foreign_fences", "found != transactional_id", "False"),
        ),
    ),
    mutant(
        "no fence record",
        "the fence record: a restore trusts the end that it is told",
        "app.runtime.opening:Opening._restore",
        "fenced.get(log, 0)",
        "0",
    ),
    mutant(
        "no fence record written",
        "the fence record: none is committed, and the state is nobody's",
        "app.runtime.opening:Opening._fence",
        "if not outbox:",
        "if True:",
    ),
    mutant(
        "no position check",
        "the position check: a batch behind a gap is folded",
        "app.runtime.rounds:Plan.take",
        "batch.start > at",
        "False",
    ),
    mutant(
        "no trimming",
        "the position check: records before the position are folded again",
        "app.runtime.folded:new_records",
        "records[0].offset < position",
        "False",
    ),
    mutant(
        "no expected version",
        "the version check of deciders: a stale expected version is not refused",
        "agents.deciding:_Decider._decide",
        "command.version != snapshot.version",
        "False",
    ),
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
        "no command ids",
        "command dedupe: a repeated command is decided again",
        "agents.deciding:_Decider.fold",
        "unit.get(OUTCOMES, command_key) is not None",
        "False",
    ),
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
        "a gap of one is tolerated",
        "the position check, by one record",
        "app.runtime.rounds:Plan.take",
        "batch.start > at",
        "batch.start > at + 1",
    ),
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
        "self._must_seek = True",
        "pass",
    ),
    mutant(
        "resume without a seek",
        "liveness: what a rebalance made us drop is not asked for again",
        "app.runtime.pipeline:Pipeline.resume",
        "self._must_seek = True",
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
    mutant(
        "a failed commit goes on",
        "errors: a commit that failed counts as one",
        "app.runtime.pipeline:Pipeline._transact",
        "await producer.commit()",
        "await asyncio.gather(producer.commit(), return_exceptions=True)",
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
        "no overlay",
        "the unit of work: later records do not see what earlier ones have put",
        "app.runtime.unit:UnitOfWork._change",
        "self._rows[full] = row",
        "self._rows.setdefault(full, row)",
    ),
    mutant(
        "deletes are not written",
        "tombstones: a deleted row stays",
        "app.runtime.unit:UnitOfWork.changes",
        "for full, table in self._dirty.items():",
        "for full, table in self._dirty.items():\n        if rows[full] is None: continue",
    ),
    mutant(
        "restored tombstones are ignored",
        "tombstones: a restore keeps deleted rows",
        "app.runtime.replay:Replay._rows",
        "if record.key is not None",
        "if record.key is not None and record.value is not None",
    ),
    mutant(
        "made again, unnoticed",
        "topic ids: nobody looks while a pipeline is open",
        "app.runtime.pipeline:Pipeline._replaced",
        "self._inbox.wake()",
        "self._trouble = None",
    ),
    mutant(
        "rows of a log that is gone",
        "topic ids: a store may be of another log",
        "app.runtime.replay:Replay.start",
        "check_log(shard, progress)",
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
        "held events are dropped",
        "ordering: what came too early is not kept",
        "agents.ordering:InOrder._hold",
        "unit.put(HELD, held_key(stream, version), Held.of(record))",
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
        "commands lie astray",
        "placement: a command in another key's partition is decided there",
        "agents.deciding:_Decider.decode",
        "here is not None and here != belongs",
        "False",
    ),
    mutant(
        "old stores are trusted",
        "age: a store that is older than tombstones are kept is not rebuilt",
        "app.runtime.replay:Replay.start",
        "age_s > CHANGELOG_DELETE_RETENTION_S",
        "False",
    ),
    mutant(
        "the group is not asked",
        "lost changelogs: positions behind the group's offsets are not refused",
        "app.runtime.refusals:check_group",
        "if not group_offset or not logged:",
        "if True:",
    ),
    mutant(
        "other sources, same positions",
        "topic ids: positions are kept for a source that was made again",
        "app.runtime.refusals:check_meta",
        "meta.source_ids.get(topic, topic_id) != topic_id",
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
        "catching up skips",
        "catching up: it begins a few records too far",
        "app.runtime.catching_up:CatchUp._read_on",
        "max(shard.position(s.topic), bounds[s].begin)",
        "max(shard.position(s.topic), bounds[s].begin) + 3",
    ),
)
