"""The README tells the truth: its worked example runs, its table of settings is complete, its links lead somewhere."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import app.domain
import app.projections
import tests.unit
from app.catalogue import CATALOGUE
from app.kernel import Envelope
from app.runtime.codec import Codec
from app.runtime.settings import describe_settings
from tests.conftest import ROOT
from tests.property.lives import SETTINGS, TOPICS, Town

README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"```python\n# (\S+)\n(.*?)```", re.DOTALL)
LINK = re.compile(r"\]\((?!https?://)([^)#]+)\)")


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The worked example's files, where Python finds them as it would in the project."""
    blocks = dict(BLOCK.findall(README))
    for package in (app.domain, app.projections, tests.unit):
        directory = tmp_path / package.__name__.replace(".", "/")
        directory.mkdir(parents=True)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(directory)])
    for name, text in blocks.items():
        if name != "app/catalogue.py":
            (tmp_path / name).write_text(text)
    before = set(sys.modules)
    yield blocks
    for name in set(sys.modules) - before:
        del sys.modules[name]


def module(name: str) -> ModuleType:
    importlib.invalidate_caches()
    return importlib.import_module(name)


def test_worked_example_has_its_files(example: dict[str, str]) -> None:
    assert set(example) == {
        "app/domain/seat.py",
        "app/projections/seats.py",
        "app/catalogue.py",
        "tests/unit/test_seat.py",
    }
    assert "SEAT)" in example["app/catalogue.py"]
    assert "CUSTOMER_ORDERS, SEATS" in example["app/catalogue.py"]


def test_worked_example_tests_pass(example: dict[str, str]) -> None:
    found = [test for name, test in vars(module("tests.unit.test_seat")).items() if name.startswith("test_")]
    assert len(found) == 2
    for test in found:
        test()


async def test_worked_example_runs_on_the_engine(example: dict[str, str]) -> None:
    seat: Any = module("app.domain.seat")
    seats: Any = module("app.projections.seats")
    catalogue = replace(
        CATALOGUE,
        aggregates=(*CATALOGUE.aggregates, seat.SEAT),
        projections=(*CATALOGUE.projections, seats.SEATS),
    )
    town = Town(catalogue.agents(SETTINGS), catalogue.topics(SETTINGS))
    codec, now = Codec(seat.SEAT.commands), datetime(2026, 1, 1, tzinfo=UTC)
    wishes = [("c1", seat.HoldSeat("12A", "b1")), ("c2", seat.HoldSeat("12A", "b2")), ("c3", seat.HoldSeat("9C", "b2"))]
    town.send(
        TOPICS.commands("seats"),
        [(wish.seat, codec.encode(Envelope(id_, wish.seat, now, wish), "/test")) for id_, wish in wishes],
    )
    await town.live()
    lived = await town.lived()
    events = [json.loads(v or b"") for p, rs in lived.records.items() if p.topic.endswith("events") for _, v in rs]
    assert {(e["type"], e["subject"], e["data"]["booking"]) for e in events} == {
        ("seat.held.v1", "12A", "b1"),
        ("seat.held.v1", "9C", "b2"),
    }
    rows = {key for (agent, _), held in lived.rows.items() if agent == "projecting-seats" for key in held}
    assert rows == {b"seats\x0012A", b"seats\x009C"}


def test_every_setting_is_in_the_table() -> None:
    """`fleet settings --markdown` prints the table."""
    for one in describe_settings():
        assert one.meaning, f"{one.variable} has no docstring"
        assert f"| `{one.variable}` | {one.default} | {one.meaning} |" in README


@pytest.mark.parametrize("page", ["README.md", *(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md"))])
def test_links_lead_somewhere(page: str) -> None:
    file = ROOT / page
    for target in LINK.findall(file.read_text()):
        assert (file.parent / target).exists(), f"{page} links to {target}"
