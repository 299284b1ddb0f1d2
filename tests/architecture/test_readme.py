"""The README tells the truth: its worked example runs, its table of settings is complete, its links lead somewhere."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app.catalogue import CATALOGUE
from app.kernel import Envelope
from app.kernel.window import ms_of
from app.runtime.codec import Codec
from app.runtime.ports import TopicPartition
from app.runtime.settings import describe_settings
from tests import worked_example
from tests.conftest import ROOT
from tests.property.lives import SETTINGS, TOPICS, Lived, Town

README = worked_example.README.read_text()
LINK = re.compile(r"\]\((?!https?://)([^)#]+)\)")


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The worked example's files, where Python finds them as it would in the project."""
    worked_example.write(tmp_path)
    for package, path in worked_example.paths_with(tmp_path):
        monkeypatch.setattr(package, "__path__", path)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def module(name: str) -> Any:
    importlib.invalidate_caches()
    return importlib.import_module(name)


def test_worked_example_is_four_files_four_entries_and_a_test() -> None:
    files = {name.replace(".", "/") + ".py" for name in worked_example.NAMES.values()}
    assert set(worked_example.blocks()) == {*files, "app/catalogue.py", "tests/unit/test_seat.py"}


@pytest.mark.usefixtures("example")
def test_worked_example_adds_to_the_catalogue_and_takes_nothing_away() -> None:
    example = worked_example.catalogue()
    for kind in fields(example):
        old, new = getattr(CATALOGUE, kind.name), getattr(example, kind.name)
        assert new[: len(old)] == old, f"the README's catalogue lacks some of {kind.name}"
    added = [one.name for kind in fields(example) for one in getattr(example, kind.name)]
    assert {"seat", "seats", "holds-per-minute", "holding"} <= set(added)


@pytest.mark.usefixtures("example")
def test_worked_example_tests_pass() -> None:
    found = [test for name, test in vars(module("tests.unit.test_seat")).items() if name.startswith("test_")]
    assert len(found) == 3
    for test in found:
        test()


@pytest.mark.usefixtures("example")
async def test_worked_example_runs_on_the_engine() -> None:
    seat = module("app.domain.seat")
    catalogue = worked_example.catalogue()
    town = Town(catalogue.agents(SETTINGS), catalogue.topics(SETTINGS))
    codec, now = Codec(seat.SEAT.commands), datetime(2023, 1, 1, tzinfo=UTC)
    wishes = [("c1", seat.HoldSeat("12A", "b1")), ("c2", seat.HoldSeat("12A", "b2")), ("c3", seat.HoldSeat("9C", "b2"))]
    town.send(
        TOPICS.commands("seats"),
        [(wish.seat, codec.encode(Envelope(id_, wish.seat, now, wish), "/test")) for id_, wish in wishes],
    )
    await town.live()
    _tick(town, TOPICS.ticks("holding"), now + timedelta(minutes=10))
    for minutes in (11, 12, 13):
        _tick(town, TOPICS.ticks("holds-per-minute"), now + timedelta(minutes=minutes))
        await town.live()
    lived = await town.lived()
    assert _told(lived, "seats.events", "booking") == [
        ("seat.held.v1", "12A", "b1"),
        ("seat.held.v1", "9C", "b2"),
        ("seat.released.v1", "12A", None),
        ("seat.released.v1", "9C", None),
    ]
    rows = [key for (agent, _), held in lived.rows.items() if agent == "projecting-seats" for key in held]
    assert sorted(rows) == [b"seats\x0012A", b"seats\x009C"], "a removed row keeps its version"
    start = str(ms_of(now))
    assert _told(lived, "holds-per-minute.finals", "count") == [("holds-per-minute.closed.v1", start, 2)]


def _tick(town: Town, topic: str, time: datetime) -> None:
    for number in range(SETTINGS.partitions):
        town.cluster.append(TopicPartition(topic, number), (None, json.dumps({"time": time.isoformat()}).encode()))


def _told(lived: Lived, topic: str, name: str) -> list[tuple[str, str, Any]]:
    """Type, subject and one field of the data of each record of a topic, sorted."""
    found = [json.loads(value or b"") for at, all_ in lived.records.items() if at.topic == topic for _, value in all_]
    return sorted((one["type"], one["subject"], one["data"].get(name)) for one in found)


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
