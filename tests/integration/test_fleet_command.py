"""`fleet up`, `fleet status` and `fleet down`, as people run them: what they start goes on by itself, and is found."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.local.fleet import LocalFleet
from app.local.ports import free_ports
from tests.conftest import ROOT

PORTS = 6
TIMEOUT_S = 100.0


class Shell:
    """Runs `fleet` in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / ".fleet"
        self.port = free_ports(PORTS)
        self.web_port = self.port + 2
        self._here = directory
        self.directory.mkdir()
        (self.directory / "lib").symlink_to(ROOT / ".fleet" / "lib")  # Kafka is fetched once

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Begin a command."""
        return subprocess.Popen(
            [sys.executable, "-m", "app.cli.main", *arguments],
            cwd=self._here,
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, str]:
        """Run a command to its end: its exit code and what it says."""
        return self.end(self.start(*arguments))

    @staticmethod
    def end(command: subprocess.Popen[str]) -> tuple[int, str]:
        """Wait for the end of a command."""
        told, _ = command.communicate(timeout=TIMEOUT_S)
        assert "Traceback" not in told, told
        return command.returncode, told

    @property
    def up(self) -> tuple[str, ...]:
        """The command that starts the fleet on ports of its own."""
        return ("up", "--port", str(self.port), "--web-port", str(self.web_port))

    def pids(self) -> dict[str, int | None]:
        """The pid of everything that belongs to the fleet."""
        fleet = LocalFleet.known(self.directory)
        assert fleet is not None
        assert fleet.kafka is not None
        return {"kafka": fleet.kafka.pid, **{worker.name: worker.pid for worker in fleet.workers}}


@pytest.fixture
def shell(tmp_path: Path, kafka: object) -> Iterator[Shell]:
    """A shell; the tests' own Kafka is asked for, so that its jars are there."""
    made = Shell(tmp_path)
    try:
        yield made
    finally:
        if (fleet := LocalFleet.known(made.directory)) is not None:
            fleet.down()


def test_what_is_started_twice_at_once_runs_once_and_goes_on_until_it_is_stopped(shell: Shell) -> None:
    assert shell.run("status") == (1, "Nothing runs here: `fleet up` starts a fleet.\n")
    at_once = [shell.start(*shell.up) for _ in range(2)]
    ended = [shell.end(one) for one in at_once]
    assert [code for code, _ in ended] == [0, 0], ended
    assert sum("waiting for it" in told for _, told in ended) == 1
    pids = shell.pids()
    assert None not in pids.values()
    code, told = shell.run("status")
    assert code == 0
    for name, pid in pids.items():
        row = next(line for line in told.splitlines() if name in line)
        assert str(pid) in row
        assert "yes" in row
    other_options_and_failures_leave_it_alone(shell, pids)
    assert shell.run("down")[0] == 0
    assert set(shell.pids().values()) == {None}
    assert shell.run("down") == (0, "Nothing runs here.\n")


def other_options_and_failures_leave_it_alone(shell: Shell, pids: dict[str, int | None]) -> None:
    code, told = shell.run(*shell.up, "--workers", "3")
    assert code == 1
    assert "stop it with `fleet down` first" in told
    fleet = LocalFleet.known(shell.directory)
    assert fleet is not None
    fleet.workers[1].stop()
    with socket.create_server(("127.0.0.1", shell.web_port + 1)):
        code, told = shell.run(*shell.up)
    assert code == 1
    assert f"port {shell.web_port + 1} is taken by process {os.getpid()}" in told
    assert shell.pids() == {**pids, "worker-2": None}, "what ran before goes on"
    assert shell.run(*shell.up)[0] == 0
    assert None not in shell.pids().values()


@pytest.mark.parametrize(
    ("arguments", "variable", "sentence"),
    [
        (("--port", "70000"), {}, "Error: 70000 is no port"),
        ((), {"FLEET_PARTITIONS": "many"}, "Error: FLEET_PARTITIONS: "),
        ((), {"FLEET_BROKERS": "nowhere"}, "Error: FLEET_BROKERS: "),
    ],
)
def test_a_mistake_is_told_in_one_sentence(
    shell: Shell,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    variable: dict[str, str],
    sentence: str,
) -> None:
    for name, value in variable.items():
        monkeypatch.setenv(name, value)
    code, told = shell.run(*shell.up, *arguments)
    assert code == 1
    assert sentence in told
