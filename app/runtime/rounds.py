"""A round, in three steps without any waiting in them: plan it, fold it into an outbox, write the stores.

Between the second and the third the pipeline commits the transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from app.kernel.errors import RecordTooLarge
from app.runtime.batch import Batch
from app.runtime.folded import Folded, Piece
from app.runtime.folding import fold_round
from app.runtime.outbox import Outbox
from app.runtime.ports import Progress, RecordBatch, TopicPartition
from app.runtime.shard import META_KEY, Shard
from app.runtime.topics import Topics

log = logging.getLogger(__name__)


class Terms(NamedTuple):
    """What every round of a pipeline has in common."""

    topics: Topics
    buckets: int
    transactional_id: str


@dataclass
class Plan:
    """Which shard folds which batches, up to which source positions; and the sources that must seek back."""

    pieces: dict[Shard, list[Piece]] = field(default_factory=dict)
    ends: dict[Shard, dict[str, int]] = field(default_factory=dict)
    gaps: set[TopicPartition] = field(default_factory=set)

    def take(self, shard: Shard, batch: Batch) -> None:
        """Let the shard fold what is new to it of the batch; a batch that begins behind a gap is refused."""
        topic = batch.partition.topic
        at = self.ends.get(shard, {}).get(topic, shard.position(topic))
        if batch.start > at:
            name = f"{shard.agent.name}/{shard.partition}"
            log.info("%s stands at %d of %s, a batch starts at %d: seek back", name, at, topic, batch.start)
            self.gaps.add(batch.partition)
        elif batch.end > at:
            self.pieces.setdefault(shard, []).append((batch, at))
            self.ends.setdefault(shard, {})[topic] = batch.end


def plan_round(
    batches: Sequence[tuple[Batch, Shard | None]], readers: Mapping[TopicPartition, Sequence[Shard]]
) -> Plan:
    """Plan a round of batches. One that comes with a shard is for that shard alone, which is catching up."""
    plan = Plan()
    for batch, only in batches:
        if only is not None:
            plan.take(only, batch)
            continue
        for shard in readers.get(batch.partition, ()):
            if shard.joined:
                plan.take(shard, batch)
    return plan


@dataclass
class FoldedRound:
    """A round as it will be committed: the changed rows by shard, and everything that is to be produced."""

    outbox: Outbox
    parts: dict[Shard, Folded] = field(default_factory=dict)
    rows: dict[Shard, dict[bytes, bytes | None]] = field(default_factory=dict)


def fold_plan(plan: Plan, terms: Terms, new_batch: Callable[[], RecordBatch]) -> FoldedRound:
    """Fold everything planned; record by record where something would not fit into a batch."""
    try:
        return _fold(plan, terms, new_batch, carefully=False)
    except RecordTooLarge as error:
        log.warning("%s folds record by record: %s", terms.transactional_id, error)
        return _fold(plan, terms, new_batch, carefully=True)


def _fold(plan: Plan, terms: Terms, new_batch: Callable[[], RecordBatch], *, carefully: bool) -> FoldedRound:
    large = {terms.topics.dead_letters(shard.agent.name) for shard in plan.pieces}
    folded = FoldedRound(Outbox(new_batch, large))
    for shard, pieces in plan.pieces.items():
        name = shard.agent.name
        part = fold_round(shard, pieces, terms.topics.dead_letters(name), carefully=carefully)
        rows = dict(part.unit.changes())
        if shard.agent.logged:
            rows[META_KEY] = shard.meta(plan.ends[shard], terms.buckets, terms.transactional_id)
            folded.outbox.add_rows(TopicPartition(terms.topics.changelog(name), shard.partition), rows.items())
        folded.outbox.add(part.unit.emitted)
        folded.parts[shard], folded.rows[shard] = part, rows
    return folded


def write_round(
    plan: Plan, folded: FoldedRound, terms: Terms, log_ends: Mapping[TopicPartition, int], now_ms: int
) -> Iterator[Shard]:
    """Write the stores of a committed round and move the positions. Yields each shard when it is done."""
    for shard, part in folded.parts.items():
        ends = plan.ends[shard]
        if shard.agent.logged:
            position = log_ends[TopicPartition(terms.topics.changelog(shard.agent.name), shard.partition)]
        else:
            position = ends[shard.agent.sources[0]]
        shard.opened().write(folded.rows[shard], Progress(position, shard.log_id, now_ms))
        shard.positions.update(ends)
        shard.parked |= part.parked
        shard.parked -= part.unparked
        yield shard
