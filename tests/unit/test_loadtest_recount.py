"""The recount: it agrees with the product on a right log and view, and finds each thing that can be wrong with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from app.domain.order import ORDER, CreateOrder
from app.kernel import Envelope, Outcome, Rejected
from app.projections.orders import ORDERS, OrderRow
from app.runtime.codec import Codec
from loadtest.customers import population
from loadtest.reading import Raw
from loadtest.recount import COMPARED, Recount

RUN = "run"
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
_row_json = msgspec.json.Encoder(decimal_format="string")


@dataclass
class World:
    """A log, its outcomes and a view, as they stand on a fleet: made by the aggregate, the codec and the projection."""

    events: list[dict[str, Any]]
    outcomes: list[dict[str, Any]]
    view: dict[str, dict[str, Any]]

    def recounted(self, run: str = RUN) -> Recount:
        """What the recount finds."""
        found = Recount(run)
        for outcome in self.outcomes:
            found.outcome(raw(outcome))
        for event in self.events:
            found.event(raw(event))
        found.match()
        found.compare(self.view)
        return found

    def of(self, kind: str) -> dict[str, Any]:
        """The log's first event of a type."""
        return next(event for event in self.events if event["type"] == kind)


def raw(wire: dict[str, Any]) -> Raw:
    return Raw(sum(wire["subject"].encode()) % 8, 0, wire["subject"].encode(), json.dumps(wire).encode())


def right_world() -> World:
    world, codec = World([], [], {}), Codec(ORDER.events)
    order: Any = ORDER  # a script holds commands of any aggregate
    clock = (BEGIN + timedelta(seconds=second) for second in range(1_000_000))
    for steps in population(RUN, 60, 5):
        state, rows = order.initial, list[Any]()
        version = 0
        for step in steps:
            if step.repeat or step.expected_version is not None:
                continue
            decision, time = order.decide(state, step.command), next(clock)
            rejected = decision if isinstance(decision, Rejected) else None
            ids = []
            for event in [] if isinstance(decision, Rejected) else decision:
                version += 1
                state = order.evolve(state, event)
                envelope = Envelope(f"{step.command_id}:e{version}", step.order_id, time, event, version)
                rows.append(ORDERS.project(rows[-1] if rows else None, envelope))
                world.events.append(json.loads(codec.encode(envelope, "/test")))
                ids.append(envelope.id)
            name = type(step.command).wire_name
            outcome = Outcome(step.command_id, name, step.order_id, version, time, tuple(ids), rejected)
            world.outcomes.append(json.loads(codec.encode_outcome(outcome, "/test")))
        world.view[steps[0].order_id] = json.loads(_row_json.encode(rows[-1]))
    return world


RIGHT = right_world()


@pytest.fixture
def world() -> World:
    return deepcopy(RIGHT)


def test_a_right_world_has_no_mismatch(world: World) -> None:
    found = world.recounted()
    assert found.examples == []
    assert found.mismatch_count == 0
    assert found.log_events == len(world.events)
    assert found.outcomes == len(world.outcomes)
    assert found.orders == 60
    assert sum(found.events.values()) == len(world.events)
    assert found.events["order.created.v1"] == 60
    assert found.statuses["delivered"] == found.events["order.delivered.v1"] > 0


def test_the_world_has_everything_that_can_happen_to_an_order(world: World) -> None:
    assert {event["type"] for event in world.events} >= {
        "order.created.v1",
        "order.payment-processed.v1",
        "order.payment-failed.v1",
        "order.shipped.v1",
        "order.delivered.v1",
        "order.cancelled.v1",
    }


def test_only_the_runs_own_orders_are_counted_but_all_are_checked(world: World) -> None:
    found = world.recounted("another-run")
    assert (found.orders, found.outcomes, found.mismatch_count) == (0, 0, 0)
    assert found.log_events == len(world.events)
    world.events.append(world.events[0])
    assert world.recounted("another-run").mismatch_count


def doubled_event(world: World) -> None:
    world.events.insert(7, world.events[6])


def lost_event(world: World) -> None:
    world.events.remove(world.of("order.payment-processed.v1"))


def lost_last_event(world: World) -> None:
    world.events.remove(world.of("order.delivered.v1"))


def version_twice_under_two_ids(world: World) -> None:
    twin = world.of("order.payment-failed.v1")
    world.events.insert(world.events.index(twin) + 1, twin | {"id": "another"})


def swapped_events(world: World) -> None:
    first = world.events.index(world.of("order.shipped.v1"))
    world.events[first], world.events[first + 1] = world.events[first + 1], world.events[first]


def impossible_life(world: World) -> None:
    shipped = world.of("order.shipped.v1")
    shipped["type"] = "order.delivered.v1"


def wrong_total(world: World) -> None:
    created = world.of("order.created.v1")
    created["data"]["total"] = world.view[created["subject"]]["total"] = "0.01"


def key_of_another_order(world: World) -> None:
    world.events[0]["data"]["order_id"] = "another"


def unknown_type(world: World) -> None:
    world.events[0]["type"] = "order.forgotten.v1"


def missing_row(world: World) -> None:
    del world.view[next(iter(world.view))]


def row_from_nowhere(world: World) -> None:
    world.view["nobody's"] = deepcopy(next(iter(world.view.values())))


def doubled_outcome(world: World) -> None:
    world.outcomes.append(world.outcomes[0])


def lost_outcome(world: World) -> None:
    del world.outcomes[0]


def outcome_of_a_lost_event(world: World) -> None:
    world.outcomes[0]["data"]["events"] = [*world.outcomes[0]["data"]["events"], "lost"]


def rejected_with_events(world: World) -> None:
    world.outcomes[0]["data"]["rejected"] = {"reason": "r", "message": "m"}


WRONGS = [
    doubled_event,
    lost_event,
    lost_last_event,
    version_twice_under_two_ids,
    swapped_events,
    impossible_life,
    wrong_total,
    key_of_another_order,
    unknown_type,
    missing_row,
    row_from_nowhere,
    doubled_outcome,
    lost_outcome,
    outcome_of_a_lost_event,
    rejected_with_events,
]


@pytest.mark.parametrize("wrong", WRONGS, ids=lambda wrong: wrong.__name__)
def test_it_finds(wrong: Callable[[World], None], world: World) -> None:
    wrong(world)
    found = world.recounted()
    assert found.mismatch_count
    assert found.examples


@pytest.mark.parametrize("name", COMPARED)
def test_it_finds_a_wrong_field_in_the_view(name: str, world: World) -> None:
    row = world.view[next(iter(world.view))]
    row[name] = 99 if name == "version" else "wrong"
    found = world.recounted()
    assert found.mismatch_count == 1
    assert name in found.examples[0]


def test_every_field_that_the_log_tells_is_compared() -> None:
    assert set(OrderRow.__struct_fields__) - {"order_id"} <= set(COMPARED)
    assert set(CreateOrder.__struct_fields__) - {"order_id", "fulfil", "pay_within_s"} <= set(COMPARED)


@pytest.mark.parametrize("value", [None, b"", b"{", b"[]", b"7", b'{"id": "x"}', b"\xff"])
def test_records_that_are_no_messages_are_told_with_their_place(value: bytes | None, world: World) -> None:
    found = Recount(RUN)
    found.event(Raw(3, 17, b"k", value))
    found.outcome(Raw(3, 18, b"k", value))
    assert found.mismatch_count == 2
    assert "3:17 of the events" in found.examples[0]
    assert "3:18 of the outcomes" in found.examples[1]


def test_a_view_that_is_behind_may_mend_but_a_wrong_row_never_does(world: World) -> None:
    order_id = world.of("order.delivered.v1")["subject"]
    world.view[order_id] |= {"version": world.view[order_id]["version"] - 1, "status": "shipped"}
    behind = world.recounted()
    assert behind.mismatch_count == behind.may_mend == 2
    world.view[order_id]["version"] += 1
    wrong = world.recounted()
    assert (wrong.mismatch_count, wrong.may_mend) == (1, 0)


def test_examples_are_bounded_but_the_count_is_not(world: World) -> None:
    world.view.clear()
    found = world.recounted()
    assert found.mismatch_count == 60
    assert len(found.examples) == 20
