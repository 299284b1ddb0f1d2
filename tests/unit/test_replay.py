"""Where a restore begins, and when a store is begun again because its log cannot complete it any more."""

from __future__ import annotations

from datetime import timedelta

import pytest

from app.kernel.errors import OpenRefused, RetryablePipelineError
from app.runtime.agent import Agent
from app.runtime.ports import LogBounds, LogChunk, Progress, Record
from app.runtime.replay import CLOCKS_DIFFER_S_MAX, Replay
from app.runtime.shard import Shard
from app.runtime.simulated import SimulatedClock, SimulatedRecord
from app.runtime.table import Table
from app.runtime.topics import CHANGELOG_DELETE_RETENTION_S, Topics
from app.runtime.unit import UnitOfWork
from tables.memory import MemoryStores

COUNTS: Table[int] = Table("counts", int)
CLOCK = SimulatedClock()
REPLAY = Replay(CLOCK, Topics())
RETENTION_MS = round(CHANGELOG_DELETE_RETENTION_S * 1000)
BOUNDS = LogBounds(10, 20)


def count(unit: UnitOfWork, record: Record, _: object) -> None:
    unit.put(COUNTS, record.key or b"", 1)


def shard_at(position: int | None, *, age_ms: int = 0, logged: bool = True, log_id: str = "log") -> Shard:
    agent = Agent("counting", ("in",), lambda record: record.value, count, (COUNTS,), logged=logged)
    made = Shard(agent, 0, MemoryStores()("counting", 0), "log")
    if position is not None:
        made.opened().write({b"k": b"v"}, Progress(position, log_id, CLOCK.epoch_ms() - age_ms))
    return made


@pytest.mark.parametrize("position", [10, 15, 20])
def test_it_goes_on_where_the_store_stands(position: int) -> None:
    shard = shard_at(position)
    assert REPLAY.start(shard, BOUNDS) == position
    assert shard.opened().get(b"k") == b"v"


def test_an_empty_store_begins_at_the_beginning() -> None:
    assert REPLAY.start(shard_at(None), BOUNDS) == 10


@pytest.mark.parametrize("position", [9, 21])
def test_a_store_that_is_outside_of_its_log_is_begun_again(position: int) -> None:
    shard = shard_at(position)
    assert REPLAY.start(shard, BOUNDS) == 10
    assert (shard.opened().get(b"k"), shard.opened().progress) == (None, None)


def test_a_store_that_is_older_than_tombstones_are_kept_is_begun_again() -> None:
    """A row that was deleted meanwhile would stay for ever."""
    young, old = shard_at(15, age_ms=RETENTION_MS), shard_at(15, age_ms=RETENTION_MS + 1)
    assert (REPLAY.start(young, BOUNDS), REPLAY.start(old, BOUNDS)) == (15, 10)
    assert (young.opened().get(b"k"), old.opened().get(b"k")) == (b"v", None)


def test_a_store_from_the_future_tells_no_age_and_is_begun_again() -> None:
    """The clock was wrong then, or is now: nobody knows which tombstones it has missed."""
    near, far = (shard_at(15, age_ms=-round(CLOCKS_DIFFER_S_MAX * 1000) - more) for more in (0, 1))
    assert (REPLAY.start(near, BOUNDS), REPLAY.start(far, BOUNDS)) == (15, 10)
    assert (near.opened().get(b"k"), far.opened().get(b"k")) == (b"v", None)


def chunk(shard: Shard, *offsets: int, age_ms: int = 0, start: int = 15) -> LogChunk:
    records = [SimulatedRecord("log", 0, n, b"new", b"1", CLOCK.epoch_ms() - age_ms, ()) for n in offsets]
    return LogChunk(REPLAY.log_of(shard), start, records, 20)


@pytest.mark.parametrize(
    ("offsets", "age_ms"), [((15, 17), RETENTION_MS + 1), ((16, 17), 0), ((), 0)], ids=["old records", "a hole", "none"]
)
def test_who_stood_still_for_so_long_that_tombstones_are_gone_begins_again(
    offsets: tuple[int, ...], age_ms: int
) -> None:
    """It was frozen as it restored or stood by: what is left of the log does not tell what was deleted meanwhile."""
    shard = shard_at(15, age_ms=RETENTION_MS + 1)
    with pytest.raises(RetryablePipelineError, match="stood still"):
        REPLAY.apply(shard, chunk(shard, *offsets, age_ms=age_ms))
    assert REPLAY.start(shard, BOUNDS) == 10
    assert shard.opened().progress is None


def test_a_log_that_was_quiet_for_long_is_followed_on() -> None:
    shard = shard_at(15, age_ms=RETENTION_MS + 1)
    REPLAY.apply(shard, chunk(shard, 15, 17))
    assert shard.opened().progress == Progress(20, "log", CLOCK.epoch_ms())
    assert shard.opened().get(b"k") == b"v"


def test_a_restore_reads_what_is_as_old_as_can_be() -> None:
    shard = shard_at(15)
    REPLAY.apply(shard, chunk(shard, 16, 19, age_ms=100 * RETENTION_MS))
    assert shard.opened().get(b"new") == b"1"


def test_an_index_has_no_tombstones_and_does_not_age() -> None:
    age = timedelta(days=400) // timedelta(milliseconds=1)
    assert REPLAY.start(shard_at(15, age_ms=age, logged=False), BOUNDS) == 15


def test_rows_of_another_log_are_refused() -> None:
    with pytest.raises(OpenRefused, match="deleted and made again"):
        REPLAY.start(shard_at(15, log_id="another"), BOUNDS)


def test_a_chunk_leaves_the_newest_row_of_each_key_and_says_how_far_it_goes() -> None:
    shard = shard_at(10)
    told = [(b"k", b"1"), (b"gone", b"1"), (b"k", b"2"), (b"gone", None)]
    records = [SimulatedRecord("log", 0, 10 + n, key, value, 0, ()) for n, (key, value) in enumerate(told)]
    REPLAY.apply(shard, LogChunk(REPLAY.log_of(shard), 10, records, 15))
    assert shard.opened().scan(b"") == [(b"k", b"2")]
    assert shard.opened().progress == Progress(15, "log", CLOCK.epoch_ms())
