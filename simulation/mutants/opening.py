"""Mutants of the opening: fencing, the fence record, and what must be refused."""

from __future__ import annotations

from simulation.mutants.mutant import Change, Mutant, mutant

OPENING: tuple[Mutant, ...] = (
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
        "nobody is announced",
        "the directory: whoever opens a bucket does not say so",
        "app.runtime.pipeline:Pipeline._announce",
        "announcement is not None",
        "False",
    ),
    mutant(
        "restored one record short",
        "the fence record: a restore ends before it",
        "app.runtime.opening:Opening._restore",
        "{log: bounds[log].end for log in behind}",
        "{log: bounds[log].end - 1 for log in behind}",
    ),
    mutant(
        "restored from too late on",
        "the restore: it begins one record behind the store's progress",
        "app.runtime.replay:Replay.start",
        "return progress.position",
        "return min(progress.position + 1, bounds.end)",
    ),
    mutant(
        "parked keys are not restored",
        "dead letters: what a key has parked is forgotten by a restart",
        "app.runtime.opening:Opening.open",
        "shard.load_parked()",
        "pass",
    ),
    mutant(
        "META without source ids",
        "topic ids: the row does not say in which topics its positions were counted",
        "app.runtime.shard:Shard.meta",
        "self.source_ids,",
        "{},",
    ),
)
