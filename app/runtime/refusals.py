"""When a pipeline must not open, because going on would lose or double data. Every refusal says what to do."""

from __future__ import annotations

from collections.abc import Sequence

from app.kernel.errors import OpenRefused
from app.runtime.ports import LogBounds, Progress, TopicPartition
from app.runtime.shard import Meta, Shard


def check_adoption(transactional_id: str, foreign: set[str], adopt: frozenset[str]) -> None:
    """Refuse state that other transactional ids own, unless a person said to take it over.

    Taking it over without being told would let a woken zombie and its successor steal it from each other for ever.
    """
    if refused := sorted(foreign - adopt):
        raise OpenRefused(
            f"{transactional_id} finds state that belongs to {', '.join(refused)}. Stop every worker of those roles "
            f"for good, then start this one once with FLEET_ADOPT={','.join(sorted(foreign))}"
        )


def check_log(shard: Shard, progress: Progress) -> None:
    """Refuse rows whose log was deleted and made again: they exist on this disk alone."""
    if progress.log_id != shard.log_id:
        raise OpenRefused(
            f"the log of {_name(shard)} was deleted and made again: rows on this disk exist nowhere else. Restore the "
            "topic, or remove this worker's data directory to start from what the log holds"
        )


def check_meta(shard: Shard, meta: Meta, source_ids: dict[str, str], *, buckets: int, adopting: bool) -> None:
    """Refuse another number of buckets, and sources that are not those which the positions were counted in."""
    if meta.buckets != buckets and not adopting:
        raise OpenRefused(
            f"{_name(shard)} was written with FLEET_BUCKETS={meta.buckets}, now it is {buckets}. Go back, or stop the "
            f"whole role and start it once with FLEET_ADOPT={meta.transactional_id}"
        )
    for topic, topic_id in source_ids.items():
        if meta.source_ids.get(topic, topic_id) != topic_id:
            raise OpenRefused(
                f"{_name(shard)}: {topic} was deleted and made again; position {meta.positions.get(topic, 0)} means "
                "nothing in the new one, whose first records would be taken for old. Restore the topic, or delete the "
                "agent's changelog topic and this worker's data directory to begin again"
            )


def check_position(shard: Shard, topic: str, bounds: LogBounds, *, accept_loss: frozenset[str]) -> None:
    """Refuse a source that ends before, or begins after, the position. Sets where a first start begins.

    A shard that has never read what comes back from dead letters has none there: it begins at the end.
    """
    first_time = topic not in shard.positions
    if first_time:
        shard.starts[topic] = bounds.end if topic == shard.agent.redrive else bounds.begin
        return
    position = shard.position(topic)
    where = f"{_name(shard)} stands at {position} of {topic}"
    if position > bounds.end:
        raise OpenRefused(f"{where}, which ends at {bounds.end}: the topic has lost records. Restore it first")
    if position < bounds.begin:
        if topic not in accept_loss:
            raise OpenRefused(
                f"{where}, which begins at {bounds.begin}: its retention has deleted records that were never handled. "
                f"To go on without them start once with FLEET_ACCEPT_LOSS={topic}"
            )
        shard.positions[topic] = bounds.begin


def check_group(
    source: TopicPartition,
    readers: Sequence[Shard],
    group_offset: int | None,
    *,
    source_end: int,
    accept_loss: frozenset[str] = frozenset(),
) -> None:
    """Refuse restored positions behind what was once reported to the consumer group: the changelog has lost rows.

    An agent that is new to the source has no position yet and may begin at the beginning, beside others that have one;
    until it has come so far as they were then it is behind, and no rows are lost. One that builds a read model anew is
    behind all others, too. An agent without a changelog has its rows from the source itself, which it reads on to the
    end: that a leader told an older one as it was restored is no loss.
    """
    logged = [shard for shard in readers if shard.agent.logged and not shard.agent.building]
    if not group_offset or not logged:
        return
    topic = source.topic
    known = [shard for shard in logged if topic in shard.positions]
    behind = [s for s in known if s.positions[topic] < group_offset and s.told.get(topic, 0) < group_offset]
    reach = [shard.position(topic) if shard.agent.logged else source_end for shard in readers]
    refused = bool(behind) or all(position < group_offset for position in reach)
    if refused and topic not in accept_loss:
        at = min((shard.positions[topic] for shard in behind or known), default=0)
        names = ", ".join(sorted({shard.agent.name for shard in behind or logged}))
        raise OpenRefused(
            f"the restored position {at} of {topic}/{source.partition} is behind the group's "
            f"offset {group_offset}: the changelog has lost rows. Restore the role's changelog topics before you go on."
            f" Where {names} is new, and an older release had the bucket since, nothing is lost: start once with "
            f"FLEET_ACCEPT_LOSS={topic}"
        )
    for shard in logged:
        if shard not in known or shard in behind:
            shard.told[topic] = group_offset


def _name(shard: Shard) -> str:
    return f"{shard.agent.name}/{shard.partition}"
