"""The index keeps every event that has an envelope, be its data what it may, and stumbles over nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from agents.indexing import NO_EVENT_SKIPPED
from app.catalogue import Catalogue
from app.domain.order import ORDER
from app.projections.orders import ORDERS
from app.runtime.batch import Batch
from app.runtime.folded import Folded
from app.runtime.folding import fold_round
from app.runtime.ports import Progress, TopicPartition
from app.runtime.settings import Settings
from app.runtime.shard import Shard
from app.runtime.simulated import SimulatedRecord
from bench.backlog import events
from tables.event_store import HISTORY, history_key
from tables.memory import MemoryStores

INDEXING = next(
    agent
    for agent in Catalogue(aggregates=(ORDER,), projections=(ORDERS,)).agents(Settings())
    if agent.name == "indexing-orders"
)
GIVEN = [value for _, value in events(1)]
ID = json.loads(GIVEN[0])["subject"]
GARBAGE = [b"", b"\xff\xfe", b"[]", b'{"subject": 1}', b'{"version": 3}', b'{"subject": "other", "version": 1}']


def _at_version(version: object) -> bytes:
    return json.dumps({"subject": ID, "version": version}).encode()


def indexed(values: Sequence[bytes], *, carefully: bool = False) -> tuple[Folded, list[bytes | None]]:
    """The round's result, and what the index has of the stream."""
    shard = Shard(INDEXING, 0, MemoryStores()("indexing-orders", 0))
    records = [SimulatedRecord("orders.events", 0, at, ID.encode(), value, 1, ()) for at, value in enumerate(values)]
    batch = Batch(TopicPartition("orders.events", 0), records, 0, 0, len(records))
    folded = fold_round(shard, [(batch, 0)], "dead", carefully=carefully)
    shard.opened().write(dict(folded.unit.changes()), Progress(1, "log", 1))
    rows = shard.opened().get_many([HISTORY.prefix + history_key(ID, version) for version in range(1, 5)])
    return folded, [None if row is None else HISTORY.decode(row) for row in rows]


@pytest.mark.parametrize("carefully", [False, True])
def test_an_event_whose_data_nobody_knows_leaves_no_hole(carefully: bool) -> None:
    unknown = json.dumps(json.loads(GIVEN[1]) | {"type": "order.teleported.v7", "data": {"where": 1}}).encode()
    given = [GIVEN[0], unknown, *GIVEN[2:]]
    folded, found = indexed(given, carefully=carefully)
    assert found == given
    assert (folded.unit.emitted, folded.unit.counts) == ([], {})


@pytest.mark.parametrize("carefully", [False, True])
@pytest.mark.parametrize(
    "garbage",
    [b"", b"\xff\xfe", b"[]", b'{"subject": 1}', b'{"version": 3}', b'{"subject": "other", "version": 1}']
    + [
        b'{"subject": "' + ID.encode() + b'", "version": ' + version + b"}" for version in (b"0", b"-1", b"1.5", b'"1"')
    ],
)
def test_what_has_no_envelope_is_no_event(garbage: bytes, carefully: bool) -> None:
    folded, found = indexed([garbage, GIVEN[0]], carefully=carefully)
    assert found == [GIVEN[0], None, None, None]
    assert (folded.unit.emitted, folded.unit.counts) == ([], {NO_EVENT_SKIPPED: 1})
    assert not folded.parked


def test_of_two_events_with_the_same_version_the_first_one_stays() -> None:
    """It is the one that all other readers have taken."""
    second = json.dumps(json.loads(GIVEN[0]) | {"id": "another"}).encode()
    _, found = indexed([GIVEN[0], second])
    assert found[0] == GIVEN[0]


def test_an_event_too_large_for_a_changelog_is_indexed_for_there_is_none() -> None:
    large = json.dumps(json.loads(GIVEN[0]) | {"more": "x" * 950_000}).encode()
    folded, found = indexed([large], carefully=True)
    assert found[0] == large
    assert not folded.parked
