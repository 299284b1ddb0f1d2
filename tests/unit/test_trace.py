"""The tree of one correlation id."""

from __future__ import annotations

import io
import json
from typing import Any

from rich.console import Console

from app.cli.trace import Node, correlated, grow, show
from app.runtime.simulated import SimulatedRecord


def record(id_: str, type_: str, cause: str | None, correlation: str | None = "c1", **data: Any) -> SimulatedRecord:
    value = {
        "id": id_,
        "type": type_,
        "source": "/t",
        "subject": "o1",
        "time": "2026-01-01T00:00:00Z",
        "data": data,
        "version": 1,
        "causationid": cause,
        "correlationid": correlation,
    }
    return SimulatedRecord("t", 0, 0, b"o1", json.dumps(value).encode(), 0, ())


RECORDS = [
    record("c1", "order.create.v1", None, correlation=None),
    record("c1", "order.create.v1", None, correlation=None),
    record("c1.0", "order.created.v1", "c1"),
    record("c1:outcome", "command.accepted.v1", "c1"),
    record("r1", "inventory.reserve.v1", "c1.0"),
    record("r1:outcome", "command.rejected.v1", "r1", rejected={"reason": "x", "message": "No such thing"}),
    record("other", "order.create.v1", None, correlation="c2", note="c1"),
    SimulatedRecord("t", 0, 0, b"o1", b"no json but c1", 0, ()),
    SimulatedRecord("t", 0, 0, b"o1", None, 0, ()),
]


def ids(nodes: list[Node]) -> Any:
    return {node.message.id: ids(node.children) for node in nodes}


def test_the_tree_follows_the_causes() -> None:
    roots = grow(correlated(RECORDS, "c1"))
    assert ids(roots) == {"c1": {"c1.0": {"r1": {}}}}
    assert roots[0].outcome == "accepted, version 1"
    assert roots[0].children[0].children[0].outcome == "rejected: No such thing"


def test_a_message_whose_cause_is_unknown_is_a_root() -> None:
    assert ids(grow(correlated(RECORDS[2:5], "c1"))) == {"c1.0": {"r1": {}}}


def test_it_can_be_read() -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(show(grow(correlated(RECORDS, "c1")), "c1"))
    text = console.export_text()
    assert text.index("order.create.v1") < text.index("order.created.v1") < text.index("inventory.reserve.v1")
    assert "No such thing" in text
