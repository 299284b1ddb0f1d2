"""Folding a round: what cannot be folded is put aside whole, and everything else goes on."""

from __future__ import annotations

import pytest

from app.kernel.errors import RetryablePipelineError, StoreFailed, UndecodableMessage
from app.runtime.agent import Agent
from app.runtime.batch import Batch
from app.runtime.folded import Folded
from app.runtime.folding import fold_round
from app.runtime.outbox import RECORD_BYTES_MAX
from app.runtime.ports import Progress, Record, TopicPartition
from app.runtime.shard import Shard
from app.runtime.simulated import SimulatedRecord
from app.runtime.table import Table
from app.runtime.unit import UnitOfWork
from tables.memory import MemoryStores

SEEN: Table[list[str]] = Table("seen", list[str])
DEAD = "reading.deadletters"


def decode(record: Record) -> str:
    text = (record.value or b"").decode()
    if text.startswith("garbage"):
        raise UndecodableMessage(f"{text} is no message")
    return text


def fold(unit: UnitOfWork, record: Record, message: str) -> None:
    if message.startswith("bug"):
        raise ZeroDivisionError("the handler's own")
    if message == "store":
        raise StoreFailed("the disk's own")
    key = record.key or b""
    size = RECORD_BYTES_MAX + 1 if message == "large" else 1
    unit.put(SEEN, key, [*(unit.get(SEEN, key) or []), message * size])
    unit.emit("out", key, message.encode())


READING = Agent("reading", ("in",), decode, fold, (SEEN,), ahead=SEEN, emits=("out",))


@pytest.fixture
def shard() -> Shard:
    return Shard(READING, 0, MemoryStores()("reading", 0))


def batch(*messages: str, start: int = 0) -> Batch:
    """Messages as "key:value"."""
    records = []
    for offset, message in enumerate(messages, start):
        key, _, value = message.partition(":")
        headers = (("trace", b"1"),)
        records.append(SimulatedRecord("in", 0, offset, key.encode(), value.encode(), 1_000 + offset, headers))
    return Batch(TopicPartition("in", 0), records, 0, start, start + len(messages))


def folded(shard: Shard, given: Batch, position: int = 0) -> Folded:
    return fold_round(shard, [(given, position)], DEAD)


def rows(found: Folded) -> dict[str, list[str]]:
    changed = {k.removeprefix(SEEN.prefix).decode(): v for k, v in found.unit.changes() if k.startswith(SEEN.prefix)}
    return {key: SEEN.decode(raw) for key, raw in changed.items() if raw is not None}


def emitted(found: Folded, topic: str) -> list[str]:
    return [(one.value or b"").decode() for one in found.unit.emitted if one.topic == topic]


def commit(shard: Shard, found: Folded) -> None:
    """As the pipeline does after the transaction."""
    shard.opened().write(dict(found.unit.changes()), Progress(1, "log", 1))
    shard.parked |= found.parked
    shard.parked -= found.unparked


def test_everything_is_folded_in_order(shard: Shard) -> None:
    found = folded(shard, batch("a:1", "b:2", "a:3"))
    assert rows(found) == {"a": ["1", "3"], "b": ["2"]}
    assert emitted(found, "out") == ["1", "2", "3"]
    assert found.events == {("str", "processed"): 3}


def test_records_before_the_position_are_trimmed(shard: Shard) -> None:
    assert emitted(folded(shard, batch("a:1", "a:2", "a:3", start=5), position=7), "out") == ["3"]


def test_an_undecodable_record_is_put_aside_whole_with_its_cause(shard: Shard) -> None:
    found = folded(shard, batch("a:1", "a:garbage", "a:3", start=40), position=40)
    assert rows(found) == {"a": ["1", "3"]}
    dead = next(one for one in found.unit.emitted if one.topic == DEAD)
    headers = dict(dead.headers)
    assert (dead.key, dead.value, headers.pop("trace")) == (b"a", b"garbage", b"1")
    assert headers == {
        "cause": b"undecodable",
        "cause-detail": b"garbage is no message",
        "agent": b"reading",
        "source-topic": b"in",
        "source-partition": b"0",
        "source-offset": b"41",
        "source-timestamp-ms": b"1041",
        "sequence": b"in@41",
        "number": b"0",
        "attempt": b"1",
    }
    assert not found.parked, "the key's other records are not its fault"


def test_a_handlers_bug_parks_the_key_and_nobody_else(shard: Shard) -> None:
    found = folded(shard, batch("a:1", "a:bug", "b:2", "a:3", "b:4"))
    assert rows(found) == {"a": ["1"], "b": ["2", "4"]}
    assert emitted(found, DEAD) == ["bug", "3"]
    assert [dict(one.headers)["cause"] for one in found.unit.emitted if one.topic == DEAD] == [b"raised", b"parked"]
    assert found.parked == {b"a"}
    assert found.events[("str", "raised")] == 1


def test_what_a_bug_had_changed_before_it_raised_is_gone(shard: Shard) -> None:
    def half(unit: UnitOfWork, record: Record, message: str) -> None:
        fold(unit, record, message)
        if message == "2":
            raise ZeroDivisionError

    agent = Agent("reading", ("in",), decode, half, (SEEN,), ahead=SEEN)
    found = folded(Shard(agent, 0, shard.store), batch("a:1", "a:2"))
    assert rows(found) == {"a": ["1"]}
    assert emitted(found, "out") == ["1"]


def test_a_parked_key_stays_parked_in_later_rounds_and_after_a_restart(shard: Shard) -> None:
    commit(shard, folded(shard, batch("a:bug")))
    later = folded(shard, batch("a:5", "b:6", start=1), position=1)
    assert (emitted(later, DEAD), rows(later)) == (["5"], {"b": ["6"]})
    restarted = Shard(READING, 0, shard.store)
    restarted.load_parked()
    assert emitted(folded(restarted, batch("a:7", start=3), position=3), DEAD) == ["7"]


def test_every_parked_key_is_known_again_however_many_there_are(shard: Shard) -> None:
    commit(shard, folded(shard, batch(*(f"key-{n}:bug" for n in range(1_001)))))
    restarted = Shard(READING, 0, shard.store)
    restarted.load_parked()
    assert restarted.parked == {b"key-%d" % n for n in range(1_001)}


def test_a_row_that_no_broker_takes_is_treated_like_a_bug(shard: Shard) -> None:
    found = fold_round(shard, [(batch("a:1", "a:large", "b:2"), 0)], DEAD, carefully=True)
    assert (rows(found), emitted(found, DEAD)) == ({"a": ["1"], "b": ["2"]}, ["large"])


def test_a_failing_disk_is_no_records_fault(shard: Shard) -> None:
    with pytest.raises(RetryablePipelineError):
        folded(shard, batch("a:1", "a:store"))
    with pytest.raises(RetryablePipelineError):
        folded(shard, batch("a:garbage", "a:store"))


def test_a_disk_that_fails_once_ends_the_round_and_is_not_tried_on(shard: Shard) -> None:
    failures = ["first"]

    def once(unit: UnitOfWork, record: Record, message: str) -> None:
        if failures:
            raise StoreFailed(failures.pop())
        fold(unit, record, message)

    agent = Agent("reading", ("in",), decode, once, (SEEN,))
    with pytest.raises(StoreFailed, match="first"):
        folded(Shard(agent, 0, shard.store), batch("a:1"))
