"""The end of a run: the same figures for people and for programs, and a verdict that means what it says."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from app.local.ports import free_ports
from loadtest import demo, load
from loadtest.drive import Driven, Progress
from loadtest.recount import Recount
from loadtest.report import Report
from loadtest.terminal import Ticker


def report(*, mismatches: int = 0, outcomes: int = 10) -> Report:
    driven = Driven(commands=11, seconds=2.0, outcomes=outcomes, repeats=1, rejected={"order_not_paid": 2})
    driven.outcome_latencies.add(0.020)
    driven.view_latencies.add(0.040)
    recount = Recount("run", log_events=8, events=Counter({"order.created.v1": 8}))
    recount.rows = {f"run-{number}": {"status": "created"} for number in range(8)}
    for number in range(mismatches):
        recount.mismatch(f"[bold]run-{number}[/bold] is missing in the view")
    return Report(8, driven, recount, {"all": 31.26, "kafka": 40.0})


def shown(of: Report, width: int = 80) -> str:
    console = Console(width=width, force_terminal=False)
    with console.capture() as captured:
        of.show(console)
    return captured.get()


def test_programs_get_every_figure_by_name() -> None:
    figures = report().as_json()
    assert figures["ok"] is True
    assert (figures["orders"], figures["commands"], figures["events"]) == (8, 11, 8)
    assert figures["rejected"] == {"order_not_paid": 2}
    assert figures["events_per_s"] == 4.0
    assert figures["outcome_ms"]["p99"] == pytest.approx(20, rel=0.01)
    assert figures["latency_ms"]["p50"] == pytest.approx(40, rel=0.01)
    assert figures["mismatches"] == 0
    assert figures["cpu"] == {"all": 31.3, "kafka": 40.0}
    assert figures["orders_by_status"] == {"created": 8}


def test_one_mismatch_is_a_failure_and_is_told() -> None:
    failed = report(mismatches=1)
    assert not failed.ok
    assert failed.as_json()["examples"] == ["[bold]run-0[/bold] is missing in the view"]
    text = shown(failed)
    assert "FAILED" in text
    assert "mismatch: [bold]run-0[/bold] is missing in the view" in text


def test_a_mismatch_while_driving_is_a_failure() -> None:
    failed = report()
    failed.driven.mismatches.append("c1 has no outcome")
    assert (failed.ok, failed.mismatches) == (False, 1)


def test_nothing_answered_is_no_success() -> None:
    assert not report(outcomes=0).ok


@pytest.mark.parametrize("width", [60, 80, 200])
def test_people_get_it_on_any_terminal(width: int) -> None:
    text = shown(report(), width)
    assert "OK: the read model equals the recount of the event log" in text
    assert all(len(line) <= width for line in text.splitlines())
    assert "8: created 8" in text


def test_the_figures_are_written_whole(tmp_path: Path) -> None:
    report().write(tmp_path / "figures.json")
    assert json.loads((tmp_path / "figures.json").read_text()) == report().as_json()


def test_without_a_terminal_progress_is_one_line_each() -> None:
    console = Console(force_terminal=False, width=200)
    with console.capture() as captured, Ticker(console) as ticker:
        ticker(Progress(1.0, 100, 400, 90, 10, 21.4))
        ticker(Progress(2.0, 200, 400, 190, 10, None))
    lines = captured.get().splitlines()
    assert lines[0].strip() == "1 s  100 of 400 sent, 90 outcomes, 10 waiting, p99 21 ms"
    assert len(lines) == 2


@pytest.mark.parametrize("program", [demo.main, load.main], ids=["demo", "load"])
def test_an_impossible_file_is_refused_before_anything_starts(program: object, tmp_path: Path) -> None:
    told = CliRunner().invoke(program, ["--json", str(tmp_path / "nowhere" / "figures.json")])  # type: ignore[arg-type]
    assert told.exit_code == 2
    assert "is no file in a directory that exists" in told.output


def test_load_without_a_fleet_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(load.main, ["--seconds", "1"])
    assert told.exit_code == 1
    assert "start one with `fleet up`" in told.output


def test_load_without_a_kafka_says_so_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_BROKERS", f"127.0.0.1:{free_ports(1)}")
    told = CliRunner().invoke(load.main, ["--seconds", "1", "--url", "http://127.0.0.1:9"])
    assert told.exit_code == 1
    assert told.output.startswith("Error: no Kafka answers at 127.0.0.1:")
    assert len(told.output.strip().splitlines()) == 1
