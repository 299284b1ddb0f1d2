"""What a worker may serve of what the group gives it."""

from __future__ import annotations

import pytest

from app.runtime.holdings import Holdings
from app.runtime.ports import TopicPartition
from app.runtime.settings import Settings
from app.runtime.world import World

TOPICS = ("in", "also")


def holdings() -> Holdings:
    def no_world(bucket: int) -> World:
        raise AssertionError("nothing is opened here")

    return Holdings(Settings(partitions=4, buckets=2), list, no_world)


def assigned(*numbers: int) -> set[TopicPartition]:
    return {TopicPartition(topic, number) for topic in TOPICS for number in numbers}


def test_whole_buckets_are_served() -> None:
    assert holdings().whole(assigned(0, 2), TOPICS) == {0}
    assert holdings().whole(assigned(0, 1, 2, 3), TOPICS) == {0, 1}
    assert holdings().whole(set(), TOPICS) == set()


@pytest.mark.parametrize("missing", [TopicPartition("in", 2), TopicPartition("also", 0)])
def test_a_torn_bucket_is_served_by_nobody(missing: TopicPartition) -> None:
    """Two workers that both had a part of it would fence each other for ever."""
    made = holdings()
    assert made.whole(assigned(0, 1, 2, 3) - {missing}, TOPICS) == {1}
    assert made.torn == 1
