"""Processes are found again, left alone where they are not ours, and ended, whatever they do."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.local import inspection
from app.local.inspection import command_line, cpu_seconds, rss_bytes, seconds_in, started
from app.local.logs import begin_run, last_error
from app.local.processes import is_there, pid_in, remember, spawn, stop, wait_until

DEADLINE_S = 10.0
WAITING = "import signal; print('up', flush=True); signal.pause()"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {WAITING}"


class Started:
    """Stand-in processes, in a directory of their own that also marks their command lines."""

    def __init__(self, directory: Path) -> None:
        self.log, self.pid_file, self.mark = directory / "log", directory / "pid", str(directory)
        self.pids: list[int] = []

    def start(self, code: str) -> int:
        """Start one, and wait until it has begun."""
        pid = spawn([sys.executable, "-c", code, self.mark], self.log, with_parent=False)
        self.pids.append(pid)
        assert wait_until(lambda: "\nup" in self.log.read_text(), DEADLINE_S)
        return pid


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Started]:
    """Processes that end with the test."""
    made = Started(tmp_path)
    yield made
    for pid in made.pids:
        stop(pid, made.mark, timeout_s=0.2)


def test_a_process_is_found_by_its_pid_file_until_it_ends(processes: Started) -> None:
    pid = processes.start(WAITING)
    remember(processes.pid_file, pid)
    assert pid_in(processes.pid_file, processes.mark) == pid
    assert stop(pid, processes.mark, timeout_s=DEADLINE_S)
    assert pid_in(processes.pid_file, processes.mark) is None


def test_a_process_that_ignores_sigterm_is_killed(processes: Started) -> None:
    pid = processes.start(STUBBORN)
    assert not stop(pid, processes.mark, timeout_s=0.3)
    assert command_line(pid) == ""


def test_threads_may_vanish_while_they_are_looked_at(tmp_path: Path) -> None:
    """Of a process with many threads, `/proc` shows some that are gone a moment later."""
    code = "import threading\nfor _ in range(20): threading.Thread(target=signal.pause, daemon=True).start()"
    for _ in range(20):
        child = subprocess.Popen([sys.executable, "-c", f"import signal\n{code}\n{WAITING}", str(tmp_path)], stdout=-1)
        assert child.stdout is not None
        child.stdout.readline()
        child.kill()
        while is_there(child.pid, str(tmp_path)):
            pass  # as often as can be: a look that falls into the moment of its end must not fail
        child.wait(DEADLINE_S)
        child.stdout.close()


def test_a_recycled_pid_is_somebody_elses(processes: Started) -> None:
    other = subprocess.Popen([sys.executable, "-c", WAITING, processes.mark], stdout=subprocess.DEVNULL)
    try:
        assert wait_until(lambda: processes.mark in command_line(other.pid), DEADLINE_S)
        processes.pid_file.write_text(f"{other.pid} 1\n")
        assert pid_in(processes.pid_file, processes.mark) is None, "it began at another time"
        remember(processes.pid_file, other.pid)
        assert pid_in(processes.pid_file, "another mark") is None, "it is another program"
        assert pid_in(processes.pid_file, processes.mark) == other.pid
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize("text", ["", "no number", "-1", "4194305 17"])
def test_a_damaged_or_stale_pid_file_names_nobody(tmp_path: Path, text: str) -> None:
    (tmp_path / "pid").write_text(text)
    assert pid_in(tmp_path / "pid", "python") is None
    assert pid_in(tmp_path / "missing", "python") is None


def test_a_process_of_its_own_session_dies_with_its_parent_where_asked(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from app.local.processes import remember, spawn\n"
        f"pid = spawn([sys.executable, '-c', {WAITING!r}, {str(tmp_path)!r}], Path({str(tmp_path / 'log')!r}), "
        f"with_parent=True); remember(Path({str(tmp_path / 'pid')!r}), pid); print('started', flush=True)\n"
        "import signal; signal.pause()"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        assert parent.stdout.readline() == "started\n"
    pid = pid_in(tmp_path / "pid", str(tmp_path))
    assert pid is not None
    assert os.getsid(pid) == pid
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert wait_until(lambda: pid_in(tmp_path / "pid", str(tmp_path)) is None, DEADLINE_S)


def test_the_last_error_is_that_of_the_last_run(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_error(log) == "it left no log"
    with log.open("ab") as out:
        begin_run(out)
        out.write(b"12:00 ERROR of yesterday\n")
        begin_run(out)
    assert last_error(log) == "it said nothing"
    with log.open("ab") as out:
        out.write(b"coming up\n\n")
    assert last_error(log) == "coming up"
    with log.open("ab") as out:
        out.write(b"Exception: disk full\n\tat java.lang.Error.raise(Error.java)\nso long\n")
    assert last_error(log) == "Exception: disk full"


def test_ps_tells_the_same_as_proc(processes: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("ps") is None:
        pytest.skip("this machine has no ps")
    pid = processes.start(WAITING)
    of_proc = command_line(pid).replace("\0", " ").strip(), rss_bytes(pid)
    monkeypatch.setattr(inspection, "PROC", tmp_path / "no-proc")
    assert (command_line(pid).strip(), rss_bytes(pid)) == of_proc
    assert 0 <= cpu_seconds(pid) < 5
    assert started(pid) == started(pid) != ""
    stop(pid, processes.mark, timeout_s=DEADLINE_S)
    assert (command_line(pid), rss_bytes(pid), cpu_seconds(pid), started(pid)) == ("", 0, 0.0, "")


@pytest.mark.parametrize(
    ("told", "seconds"), [("", 0), ("00:00:07", 7), ("1:02.50", 62.5), ("02:00:01", 7_201), ("1-00:00:01", 86_401)]
)
def test_the_cpu_time_of_every_kind_of_ps_is_understood(told: str, seconds: float) -> None:
    assert seconds_in(told) == seconds
