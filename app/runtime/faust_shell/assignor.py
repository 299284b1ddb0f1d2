"""The assignor: moves whole buckets, deciding once for the whole role.

Faust's own groups topics by partition count and subscription and assigns each group by itself, which can tear a bucket
apart. Here a bucket (partition number modulo the number of buckets, over all of the role's source topics) goes to one
worker or to none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from faust.assignor.partition_assignor import PartitionAssignor

VERSION = 1


@dataclass(frozen=True)
class Member:
    """What a worker tells of itself as it joins: its name, how many buckets it believes in, which it serves, and which
    it has rows of besides, from standing by or from an earlier life."""

    worker: str
    buckets: int
    held: tuple[int, ...] = ()
    warm: tuple[int, ...] = ()


def assign_buckets(members: Mapping[str, Member], buckets: int) -> dict[str, list[int]]:
    """Give every bucket to a member: as evenly as can be; to its present holder, or else to one who has its rows,
    where that does not hinder.

    Deterministic: the same members give the same answer, in whatever order they come.
    """
    order = sorted(members, key=lambda member: (members[member].worker, member))
    given: dict[str, list[int]] = {member: [] for member in order}
    if not order:
        return given
    least, extra = divmod(buckets, len(order))
    claims = {m: [b for b in dict.fromkeys(members[m].held) if 0 <= b < buckets] for m in order}
    taken: set[int] = set()
    for member in sorted(order, key=lambda m: -len(claims[m])):
        room = least + (1 if extra > 0 else 0)
        kept = [b for b in claims[member] if b not in taken][:room]
        extra -= len(kept) > least
        given[member] += kept
        taken.update(kept)
    for bucket in (b for b in range(buckets) if b not in taken):
        room = least + (1 if extra > 0 else 0)
        warm = [m for m in order if bucket in members[m].warm and len(given[m]) < room]
        if warm:
            member = min(warm, key=lambda m: len(given[m]))
            extra -= len(given[member]) == least
            given[member].append(bucket)
            taken.add(bucket)
    for bucket in (b for b in range(buckets) if b not in taken):
        member = min(order, key=lambda m: len(given[m]))
        given[member].append(bucket)
    return {member: sorted(got) for member, got in given.items()}


def assign_standbys(
    members: Mapping[str, Member], given: Mapping[str, Sequence[int]], buckets: int, replicas: int
) -> dict[str, list[int]]:
    """Who stands by for which bucket: up to `replicas` other members, first those who have its rows already, evenly."""
    order = sorted(members, key=lambda member: (members[member].worker, member))
    standing: dict[str, list[int]] = {member: [] for member in order}
    owner = {bucket: member for member, got in given.items() for bucket in got}
    for bucket in range(buckets):
        others = [m for m in order if bucket in owner and m != owner[bucket]]

        def preference(member: str, bucket: int = bucket) -> tuple[bool, int]:
            known = members[member]
            return bucket not in known.held and bucket not in known.warm, len(standing[member])

        for member in sorted(others, key=preference)[:replicas]:
            standing[member].append(bucket)
    return standing


def partitions_of(buckets: Iterable[int], of: int, partitions: int) -> list[int]:
    """The partition numbers of some buckets, `of` buckets in all."""
    wanted = set(buckets)
    return [number for number in range(partitions) if number % of in wanted]


class BucketAssignor(PartitionAssignor):
    """Faust's partition assignor, with buckets. Faust finds it as `app.assignor`."""

    @property
    def name(self) -> str:
        """Its name in the group protocol: all members of a role must share it."""
        return "eventfleet-buckets"

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """What this worker tells as it joins."""
        app: Any = self.app
        settings = app.fleet_settings
        told = {
            "worker": settings.worker,
            "buckets": settings.buckets,
            "held": app.held_buckets(),
            "warm": app.warm_buckets(),
        }
        return ConsumerProtocolMemberMetadata(VERSION, sorted(topics), json.dumps(told).encode())

    def assign(self, cluster: Any, members: Mapping[str, ConsumerProtocolMemberMetadata]) -> dict[str, Any]:
        """Decide for all members: called in the group's leader alone."""
        app: Any = self.app
        buckets = app.fleet_settings.buckets
        topics = sorted({topic for metadata in members.values() for topic in metadata.subscription})
        told = {member: _member(metadata) for member, metadata in members.items()}
        # Who counts buckets otherwise, or does not read all of the role's topics (an older release, say), gets none: a
        # bucket in its hands would be torn.
        able = {
            member: one
            for member, one in told.items()
            if one.buckets == buckets and set(topics) <= set(members[member].subscription)
        }
        given = assign_buckets(able, buckets)
        standing = assign_standbys(able, given, buckets, app.fleet_settings.standbys)
        counts = {topic: len(cluster.partitions_for_topic(topic) or ()) for topic in topics}
        return {
            member: _assignment(given.get(member, []), standing.get(member, []), buckets, counts) for member in members
        }

    def on_assignment(self, assignment: ConsumerProtocolMemberAssignment) -> None:
        """Note what to stand by for; what to serve, the partitions say. Called in the consumer's thread."""
        app: Any = self.app
        app.standing_by = frozenset(json.loads(assignment.user_data or b"{}").get("standing_by", ()))


def _member(metadata: ConsumerProtocolMemberMetadata) -> Member:
    told = json.loads(metadata.user_data)
    held, warm = (tuple(int(b) for b in told.get(name, ())) for name in ("held", "warm"))
    return Member(str(told["worker"]), int(told["buckets"]), held, warm)


def _assignment(
    got: Sequence[int], standing_by: Sequence[int], buckets: int, counts: Mapping[str, int]
) -> ConsumerProtocolMemberAssignment:
    by_topic = [(topic, partitions_of(got, buckets, count)) for topic, count in counts.items()]
    parts = [(topic, numbers) for topic, numbers in by_topic if numbers]
    told = {"buckets": sorted(got), "standing_by": sorted(standing_by)}
    return ConsumerProtocolMemberAssignment(VERSION, parts, json.dumps(told).encode())
