"""Windows, record by record: whoever is told that a partition has handed over everything has been handed it."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import msgspec
import pytest

from agents import windowing as room
from agents.gathering import Ask, Part, Passed, inbox_decoder
from agents.windowing import windowing
from app.catalogue import decoder_of
from app.domain.order import ORDER, Item, OrderCreated
from app.kernel import Envelope, Tumbling, Window, total_of
from app.kernel.window import Figures, time_of
from app.runtime.codec import Codec
from app.runtime.ports import Record
from app.runtime.simulated import SimulatedRecord
from app.runtime.topics import Topics
from tables.windows import gathering_of
from tests.unit.one_partition import OnePartition

BEGIN = 1_767_225_600_000
MINUTE = 60_000
TOPICS = Topics()
WINDOW = Window(
    name="tested",
    category=ORDER.category,
    events=(OrderCreated,),
    kind=Tumbling(timedelta(minutes=1)),
    grace=timedelta(seconds=1),
    fold=total_of(lambda order: order.total),
    key=lambda order: order.customer_id,
)
CODEC = Codec(ORDER.events)
INBOX, LATE = TOPICS.inbox("tested"), TOPICS.late("tested")
_encode = msgspec.json.Encoder().encode
decode = inbox_decoder(WINDOW)


def partition() -> OnePartition:
    return OnePartition(windowing(WINDOW, TOPICS, decoder_of(ORDER), 1))


def sold(id_: str, at_ms: int, customer: str = "c") -> Record:
    created = OrderCreated(id_, customer, "Ann", "a@example.org", (Item("p", 1, Decimal(1)),), Decimal(1))
    value = CODEC.encode(Envelope(f"e-{id_}", id_, time_of(BEGIN + at_ms), created, 1), "/t")
    return SimulatedRecord(TOPICS.events("orders"), 0, 0, id_.encode(), value, BEGIN + at_ms, ())


def told(message: object) -> Record:
    return SimulatedRecord(INBOX, 0, 0, None, _encode(message), BEGIN, ())


def brought(one: OnePartition) -> list[Record]:
    """What the last rounds have put into the inbox, to be taken in next."""
    found = [SimulatedRecord(INBOX, 0, 0, e.key, e.value, BEGIN, ()) for e in one.emitted if e.topic == INBOX]
    one.emitted.clear()
    return list(found)


def test_nobody_is_told_that_all_was_handed_over_while_something_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "CLOSED_PER_RECORD", 2)
    one, due = partition(), BEGIN + MINUTE + WINDOW.grace_ms
    one.take(*(sold(f"o{n}", n, f"c{n}") for n in range(5)), told(Ask(0, due)))
    one.take(sold("later", 2 * MINUTE, "later"))
    said: list[object] = []
    for _ in range(10):
        new = brought(one)
        said += map(decode, new)
        one.take(*(record for record in new if not isinstance(decode(record), Part)))
        if not new:
            break
    parts = [number for number, message in enumerate(said) if isinstance(message, Part)]
    passed = [number for number, message in enumerate(said) if isinstance(message, Passed)]
    assert len(parts) == 5
    assert len(passed) == 1
    assert passed[0] > parts[-1], said


def test_a_part_that_comes_after_its_window_became_final_is_kept_and_changes_nothing() -> None:
    one = partition()
    part = Part(0, BEGIN, BEGIN + MINUTE, "c", Figures(1, Decimal(1)))
    one.take(told(part), told(Passed(0, BEGIN + 5 * MINUTE)))
    finals = [e.value for e in one.emitted if e.topic == TOPICS.finals("tested")]
    assert len(finals) == 1
    one.emitted.clear()
    late = told(Part(0, BEGIN, BEGIN + MINUTE, "c", Figures(7, Decimal(7))))
    one.take(late, told(Passed(0, BEGIN + 9 * MINUTE)))
    assert [(e.topic, e.value, list(e.headers)) for e in one.emitted] == [(LATE, late.value, [("window", b"tested")])]
    assert one.rows(gathering_of(WINDOW)) == {}
