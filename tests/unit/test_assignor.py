"""Buckets go to workers whole, evenly, and stay where they are if they can."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from hypothesis import given
from hypothesis import strategies as st

from app.runtime.buckets import Member, assign_buckets, assign_standbys, partitions_of
from app.runtime.faust_shell.assignor import BucketAssignor

workers = st.dictionaries(
    st.sampled_from("abcdefgh"),
    st.builds(
        Member,
        st.sampled_from(["w1", "w2", "w3"]),
        st.just(8),
        st.lists(st.integers(0, 9)).map(tuple),
        st.lists(st.integers(0, 9)).map(tuple),
    ),
    min_size=1,
)


@given(workers, st.integers(1, 9))
def test_every_bucket_goes_to_exactly_one_worker_and_evenly(members: dict[str, Member], buckets: int) -> None:
    given_ = assign_buckets(members, buckets)
    assert sorted(bucket for got in given_.values() for bucket in got) == list(range(buckets))
    sizes = [len(got) for got in given_.values()]
    assert max(sizes) - min(sizes) <= 1


@given(workers, st.integers(1, 9), st.randoms())
def test_the_order_of_members_does_not_matter(members: dict[str, Member], buckets: int, lots: Any) -> None:
    shuffled = list(members.items())
    lots.shuffle(shuffled)
    assert assign_buckets(dict(shuffled), buckets) == assign_buckets(members, buckets)


@given(st.integers(1, 8), st.integers(1, 16))
def test_nothing_moves_while_nobody_comes_or_goes(count: int, buckets: int) -> None:
    members = {f"m{n}": Member(f"w{n}", buckets) for n in range(count)}
    first = assign_buckets(members, buckets)
    holding = {name: Member(f"w{n}", buckets, tuple(first[name])) for n, name in enumerate(members)}
    assert assign_buckets(holding, buckets) == first


@given(st.integers(1, 6), st.integers(2, 16))
def test_a_newcomer_takes_only_its_own_share(count: int, buckets: int) -> None:
    members = {f"m{n}": Member(f"w{n}", buckets) for n in range(count)}
    before = assign_buckets(members, buckets)
    holding = {name: Member(f"w{n}", buckets, tuple(before[name])) for n, name in enumerate(members)}
    after = assign_buckets({**holding, "new": Member("z", buckets)}, buckets)
    moved = [bucket for name in members for bucket in before[name] if bucket not in after[name]]
    assert sorted(moved) == after["new"]


def test_a_dead_workers_buckets_go_to_those_who_have_their_rows() -> None:
    members = {
        "m1": Member("w1", 6, held=(0, 1), warm=(4,)),
        "m2": Member("w2", 6, held=(2, 3), warm=(5,)),
    }
    assert assign_buckets(members, 6) == {"m1": [0, 1, 4], "m2": [2, 3, 5]}


@given(workers, st.integers(1, 9), st.integers(0, 3))
def test_others_stand_by_for_every_bucket(members: dict[str, Member], buckets: int, replicas: int) -> None:
    given_ = assign_buckets(members, buckets)
    standing = assign_standbys(members, given_, buckets, replicas)
    for member, got in standing.items():
        assert len(set(got)) == len(got)
        assert not set(got) & set(given_[member])
    for bucket in range(buckets):
        assert sum(bucket in got for got in standing.values()) == min(replicas, len(members) - 1)


def test_who_has_rows_already_stands_by() -> None:
    members = {name: Member(name, 3, warm=(0, 1, 2) if name == "c" else ()) for name in "abc"}
    standing = assign_standbys(members, {"a": [0], "b": [1], "c": [2]}, 3, 1)
    assert standing["c"] == [0, 1]


def assigned(
    told: Mapping[str, tuple[int, list[str]]], partitions: Mapping[str, int]
) -> dict[str, dict[str, list[int]]]:
    """What the leader answers: by member, the partitions of each topic. `told` is (buckets, topics) of each member."""
    assignor: Any = BucketAssignor.__new__(BucketAssignor)
    assignor.app = SimpleNamespace(fleet_settings=SimpleNamespace(buckets=2, standbys=1))
    members = {
        name: ConsumerProtocolMemberMetadata(
            1, topics, json.dumps({"worker": name, "buckets": buckets, "held": []}).encode()
        )
        for name, (buckets, topics) in told.items()
    }
    cluster = SimpleNamespace(partitions_for_topic=lambda topic: set(range(partitions[topic])))
    answer = assignor.assign(cluster, members)
    return {name: {topic: list(numbers) for topic, numbers in one.assignment} for name, one in answer.items()}


def test_a_bucket_spans_all_topics_of_the_role() -> None:
    topics = {"a": 4, "b": 4}
    answer = assigned({"m1": (2, ["a", "b"]), "m2": (2, ["a", "b"])}, topics)
    assert answer == {"m1": {"a": [0, 2], "b": [0, 2]}, "m2": {"a": [1, 3], "b": [1, 3]}}


def test_a_member_that_counts_otherwise_or_reads_less_gets_nothing() -> None:
    answer = assigned({"m1": (2, ["a", "b"]), "old": (2, ["a"]), "odd": (3, ["a", "b"])}, {"a": 4, "b": 4})
    assert answer == {"m1": {"a": [0, 1, 2, 3], "b": [0, 1, 2, 3]}, "old": {}, "odd": {}}


def test_partitions_of_a_bucket() -> None:
    assert partitions_of([0, 2], of=3, partitions=7) == [0, 2, 3, 5, 6]
