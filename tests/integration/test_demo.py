"""The demo as people run it: in a terminal's stead a pipe, on ports and data of its own; and what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.local.fleet import LocalFleet
from app.local.ports import free_ports
from app.local.processes import wait_until
from tests.conftest import ROOT

PORTS = 6
ORDERS = 40
ENDED_TIMEOUT_S = 10.0
INTERRUPTED = 130
COLD = ("--warm-up", "0")


class Demo:
    """`fleet demo` in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._port = free_ports(PORTS)
        self._started: list[subprocess.Popen[str]] = []
        (directory / ".fleet").mkdir()
        (directory / ".fleet" / "lib").symlink_to(ROOT / ".fleet" / "lib")  # Kafka is fetched once

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start it; it is interrupted at the end of the test, should it run then."""
        ports = ["--port", str(self._port), "--web-port", str(self._port + 2)]
        # In a session of its own: a terminal's Ctrl-C is sent by the test, to it alone.
        one = subprocess.Popen(
            [sys.executable, "-m", "loadtest.demo", "--orders", str(ORDERS), *ports, *arguments],
            cwd=self.directory,
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._started.append(one)
        return one

    def run(self, *arguments: str) -> dict[str, Any]:
        """Run it to its end; its figures."""
        self.told(0, "--json", "figures.json", *arguments)
        figures: dict[str, Any] = json.loads((self.directory / "figures.json").read_text())
        return figures

    def told(self, code: int, *arguments: str) -> str:
        """Run it to its end, which must be this exit code; what it says."""
        one = self.start(*arguments)
        told, _ = one.communicate(timeout=100)
        assert one.returncode == code, told
        return told

    def left(self) -> list[str]:
        """What still runs in its directory, or was started from there: pids and command lines."""
        mark = str(self.directory).encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                texts = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
                here = os.readlink(process / "cwd").startswith(str(self.directory))
            except OSError:
                continue
            if texts[0] and (here or any(mark in text for text in texts)):
                found.append(f"{process.name} {texts[0].decode(errors='replace')}")
        return found

    def close(self) -> None:
        """End what is left of it."""
        for one in self._started:
            if one.poll() is None:
                one.send_signal(signal.SIGINT)
                one.communicate(timeout=60)
        if (fleet := LocalFleet.known(self.directory / ".fleet")) is not None:
            fleet.down()


@pytest.fixture
def demo(tmp_path: Path, kafka: object) -> Iterator[Demo]:
    """A demo; the tests' own Kafka is asked for, so that its jars are there."""
    made = Demo(tmp_path)
    try:
        yield made
    finally:
        made.close()


def test_it_runs_and_runs_again_on_the_kept_data_with_roles_split(demo: Demo) -> None:
    first = demo.run("--warm-up", "20")
    assert (first["ok"], first["orders"], first["mismatches"]) == (True, ORDERS, 0)
    assert first["events_by_type"]["order.created.v1"] == sum(first["orders_by_status"].values()) == ORDERS
    assert first["events"] == first["commands"] - first["repeats"] - sum(first["rejected"].values())
    assert first["log_events"] > first["events"] + 20
    assert 0 < first["outcome_ms"]["p50"] <= first["outcome_ms"]["p99"]
    assert 0 < first["latency_ms"]["p50"] <= first["latency_ms"]["p99"]
    assert set(first["cpu"]) == {"all", "kafka"}
    assert demo.left() == []
    second = demo.run("--split", "--seed", "2", "--keep", *COLD)
    assert (second["ok"], second["orders"]) == (True, ORDERS)
    assert second["log_events"] == first["log_events"] + second["events"]
    assert {"commands", "reads", "kafka"} <= set(second["cpu"])
    use_what_was_kept(demo)


def use_what_was_kept(demo: Demo) -> None:
    kept = demo.left()
    assert len(kept) >= 3
    assert "A fleet runs here already" in demo.told(0, *COLD)
    assert demo.left() == kept
    fleet = LocalFleet.known(demo.directory / ".fleet")
    assert fleet is not None
    fleet.workers[0].stop()
    assert f"{fleet.workers[0].name} cannot serve" in demo.told(1)


@pytest.mark.parametrize("moment", ["Starting Kafka", "Starting 2 workers", "sent", "Recounting"])
def test_ctrl_c_leaves_nothing_behind(demo: Demo, moment: str) -> None:
    one = demo.start("--orders", "200", "--rate", "150", *COLD)
    assert one.stdout is not None
    assert any(moment in line for line in one.stdout)
    one.send_signal(signal.SIGINT)
    one.send_signal(signal.SIGINT)  # people are impatient
    told, _ = one.communicate(timeout=60)
    assert one.returncode == INTERRUPTED, told
    assert "Traceback" not in told, told
    assert demo.left() == []


def test_kill_9_of_the_demo_takes_its_fleet_along(demo: Demo) -> None:
    one = demo.start("--orders", "400")
    assert one.stdout is not None
    assert any("Driving" in line for line in one.stdout)
    one.kill()
    one.communicate(timeout=60)
    assert wait_until(lambda: demo.left() == [], ENDED_TIMEOUT_S), demo.left()


def test_with_failures_every_order_ends_as_it_must_and_the_auditor_finds_nothing(demo: Demo) -> None:
    figures = demo.run("--failures", "--audit", "--split", *COLD)
    assert (figures["ok"], figures["mismatches"], figures["repeats"] > 0) == (True, 0, True)
    ends = figures["endings"]
    assert sum(count for by_end in ends.values() for count in by_end.values()) == ORDERS
    assert ends["never pays"] == {"cancelled": sum(ends["never pays"].values())}
    assert figures["alerts"]["high-value"] > 0
    audit = figures["audit"]
    assert (audit["ok"], audit["violations"]) == (True, 0)
    checked = {one["name"]: one["checked"] for one in audit["invariants"]}
    assert audit["checked"] == sum(checked.values())
    need_not_come = {"parked-keys-accounted", "finals-exactly-once"}  # nothing is parked; no window is over so soon
    assert min(checked[name] for name in checked.keys() - need_not_come) > 0
