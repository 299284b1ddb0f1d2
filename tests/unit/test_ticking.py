"""Who is told the time: whoever waits for it, and windows only where no event is left to be read."""

from __future__ import annotations

from app.runtime.agent import Agent, Ticking
from app.runtime.ports import Progress, Record, TopicPartition
from app.runtime.shard import Shard
from app.runtime.table import Table
from app.runtime.ticking import waiting
from app.runtime.unit import UnitOfWork
from tables.memory import MemoryStores

TIMERS: Table[int] = Table("timers", int)


def nothing(unit: UnitOfWork, record: Record, message: object) -> None:
    """Fold nothing."""


def shard(name: str, number: int, ticking: Ticking | None, *, timers: int) -> Shard:
    agent = Agent(name, ("in",), lambda record: record.value, nothing, (TIMERS,), ticking=ticking)
    store = MemoryStores()(name, number)
    store.write({TIMERS.prefix + b"%d" % n: TIMERS.encode(n) for n in range(timers)}, Progress(1, "log", 1))
    return Shard(agent, number, store)


def test_only_who_waits_is_told() -> None:
    chain = Ticking("chain.ticks", TIMERS)
    shards = [
        shard("chaining", 0, chain, timers=2),
        shard("chaining", 1, chain, timers=0),
        shard("projecting", 0, None, timers=2),
        Shard(shard("chaining", 2, chain, timers=0).agent, 2),
    ]
    assert waiting(shards, ()) == {TopicPartition("chain.ticks", 0)}


def test_a_window_is_told_where_its_events_are_read_to_their_end() -> None:
    window = Ticking("window.ticks", TIMERS, idle="in")
    shards = [shard("windowing", number, window, timers=1) for number in range(2)]
    assert waiting(shards, {TopicPartition("in", 1)}) == {TopicPartition("window.ticks", 1)}
