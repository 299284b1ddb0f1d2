"""Buckets: which partitions belong together, and which worker of a role gets them, or stands by for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


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
