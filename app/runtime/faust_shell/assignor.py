"""The assignor: moves whole buckets, deciding once for the whole role.

Faust's own groups topics by partition count and subscription and assigns each group by itself, which can tear a bucket
apart. Here a bucket (partition number modulo the number of buckets, over all of the role's source topics) goes to one
worker or to none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from faust.assignor.partition_assignor import PartitionAssignor

from app.runtime.buckets import Member, assign_buckets, assign_standbys, partitions_of

VERSION = 1


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
