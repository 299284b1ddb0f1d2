"""Upcasters: chained, checked where they are declared, and applied by every codec of the product."""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, ClassVar

import msgspec
import pytest

from app.kernel import Aggregate, Command, Event, Rejected, Upcaster
from app.kernel.errors import UndecodableMessage
from app.runtime.codec import Codec
from tests.conftest import ROOT
from tests.golden.drafts import draft


class Weigh(Command, frozen=True):
    wire_name: ClassVar[str] = "parcel.weigh.v2"
    parcel_id: str
    grams: int


class Weighed(Event, frozen=True):
    wire_name: ClassVar[str] = "parcel.weighed.v3"
    parcel_id: str
    grams: int
    fee: Decimal


def decide(state: int, command: Weigh) -> Sequence[Weighed] | Rejected:
    return [Weighed(command.parcel_id, command.grams, Decimal(1))]


def evolve(state: int, event: Weighed) -> int:
    return event.grams


def kilograms(data: dict[str, Any]) -> dict[str, Any]:
    return {"parcel_id": data["parcel_id"], "grams": int(data["kilograms"] * 1000)}


STEPS = (
    Upcaster("parcel.weigh.v1", "parcel.weigh.v2", kilograms),
    Upcaster("parcel.weighed.v1", "parcel.weighed.v2", kilograms),
    Upcaster("parcel.weighed.v2", "parcel.weighed.v3", lambda data: {**data, "fee": "0.10"}),
)


def parcel(*upcasters: Upcaster) -> Aggregate[int, Weigh, Weighed]:
    return Aggregate("parcel", 0, decide, evolve, upcasters=upcasters)


def record(name: str, **data: Any) -> bytes:
    event = json.loads(draft(name, Weighed))
    return json.dumps({**event, "subject": "p", "data": {"parcel_id": "p", **data}}).encode()


def test_old_versions_come_up_step_by_step() -> None:
    events, commands = Codec.of_events(parcel(*STEPS)), Codec.of_commands(parcel(*STEPS))
    assert events.decode(record("parcel.weighed.v1", kilograms=1.5)).message == Weighed("p", 1500, Decimal("0.10"))
    assert events.decode(record("parcel.weighed.v2", grams=7)).message == Weighed("p", 7, Decimal("0.10"))
    assert events.decode(record("parcel.weighed.v3", grams=7, fee="2")).message == Weighed("p", 7, Decimal(2))
    assert commands.decode(record("parcel.weigh.v1", kilograms=2)).message == Weigh("p", 2000)


def test_a_number_with_a_point_stays_exact() -> None:
    seen: list[Any] = []

    def look(data: dict[str, Any]) -> dict[str, Any]:
        seen.append(data["kilograms"])
        return kilograms(data)

    codec = Codec([Weigh], [Upcaster("parcel.weigh.v1", "parcel.weigh.v2", look)])
    raw = record("parcel.weigh.v1", kilograms=0).replace(b'"kilograms": 0', b'"kilograms": 0.1000000000000000000001')
    codec.decode(raw)
    assert seen == [Decimal("0.1000000000000000000001")]


@pytest.mark.parametrize(
    "data", [{}, {"kilograms": "x"}, {"kilograms": None}, {"kilograms": [1]}, {"kilograms": Decimal("1e400")}]
)
def test_data_that_an_upcaster_stumbles_over_is_undecodable(data: dict[str, Any]) -> None:
    codec = Codec.of_events(parcel(*STEPS))
    raw = msgspec.json.encode({**json.loads(record("parcel.weighed.v1")), "data": {"parcel_id": "p", **data}})
    with pytest.raises(UndecodableMessage):
        codec.decode(raw)


def same(data: dict[str, Any]) -> dict[str, Any]:
    return data


@pytest.mark.parametrize(
    ("steps", "complaint"),
    [
        ([Upcaster("parcel.weighed.v3", "parcel.weighed.v4", same)], "give that class the new version"),
        (
            [Upcaster("parcel.weighed.v1", "parcel.weighed.v2", same)],
            "leads to parcel.weighed.v2, and from there to no",
        ),
        ([STEPS[1], STEPS[1], STEPS[2]], "parcel.weighed.v1 has two upcasters"),
        (
            [
                Upcaster("parcel.weighed.v1", "parcel.weighed.v2", same),
                Upcaster("parcel.weighed.v2", "parcel.weighed.v1", same),
            ],
            "from there to no message",
        ),
        ([Upcaster("weighed", "parcel.weighed.v3", same)], "'weighed' is no wire name"),
    ],
)
def test_a_way_that_leads_nowhere_is_refused_where_it_is_declared(steps: Sequence[Upcaster], complaint: str) -> None:
    with pytest.raises(TypeError, match=complaint):
        parcel(*steps)


@pytest.mark.parametrize("name", ["", "weighed", "parcel.weighed", "parcel.weighed.v0", "Parcel.weighed.v1", "a.b.v1 "])
def test_a_wire_name_says_what_and_in_which_version(name: str) -> None:
    kind = type("Unnamed", (Weighed,), {"wire_name": name}, frozen=True)
    assert issubclass(kind, Weighed)

    def evolves(state: int, event: Any) -> int:
        return state

    evolves.__annotations__["event"] = kind
    with pytest.raises(TypeError, match="is no wire name"):
        Aggregate("parcel", 0, decide, evolves)


def test_no_codec_of_the_product_forgets_the_old_versions() -> None:
    """A bare `Codec(kinds)` would: only who encodes may have one."""
    bare = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for room in ("app", "agents", "tables")
        for path in (ROOT / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Codec"
    ]
    assert [place.partition(":")[0] for place in bare] == ["agents/sending.py"], (
        f"use Codec.of_events or Codec.of_commands: {bare}"
    )
