"""Processes that this fleet started: found again by pid file, checked before they are touched."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from app.local.inspection import command_line, started
from app.local.logs import begin_run

POLL_S = 0.05
PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """On Linux the child gets SIGTERM when its parent dies, however that dies."""
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    except (OSError, AttributeError):
        return


_children: dict[int, subprocess.Popen[bytes]] = {}
"""Those that this very process has started: they must be reaped."""


def spawn(
    command: Sequence[str],
    log_file: Path,
    *,
    with_parent: bool,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> int:
    """Start a process in a session of its own, so that Ctrl-C is ours to handle; its pid."""
    with log_file.open("ab") as out:
        begin_run(out)
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
            env=env,
            cwd=cwd,
            start_new_session=True,
            preexec_fn=_die_with_parent if with_parent else None,  # noqa: PLW1509 - one prctl call
        )
    _children[process.pid] = process
    return process.pid


def is_running(pid: int, mark: str) -> bool:
    """Whether `pid` runs and is ours: `mark` stands in its command line. A recycled pid is somebody else's."""
    if (child := _children.get(pid)) is not None:
        return child.poll() is None
    return mark in command_line(pid)


def remember(file: Path, pid: int) -> None:
    """Write a pid file: the pid, and when its process began, for pids are used again."""
    file.write_text(f"{pid} {started(pid)}\n")


def pid_in(file: Path, mark: str) -> int | None:
    """The pid in a pid file, where that process still runs and is ours."""
    try:
        told = file.read_text().split()
        pid = int(told[0])
    except (OSError, ValueError, IndexError):
        return None
    same = len(told) < 2 or told[1] == started(pid)
    return pid if same and is_running(pid, mark) else None


def stop(pid: int, mark: str, *, timeout_s: float) -> bool:
    """SIGTERM, and SIGKILL past the time-out. Whether it went by itself."""
    _signal(pid, signal.SIGTERM)
    if wait_until(lambda: not is_there(pid, mark), timeout_s):
        return True
    if is_running(pid, mark):
        _signal(pid, signal.SIGKILL)
    wait_until(lambda: not is_there(pid, mark), timeout_s)
    return False


def is_there(pid: int, mark: str) -> bool:
    """Whether anything of it is left. A process that was killed has no command line, but its threads may still hold
    its ports for a moment."""
    if pid in _children:
        return is_running(pid, mark)
    return _holds_files(pid) or is_running(pid, mark)


def _holds_files(pid: int) -> bool:
    """Whether one of its threads still has a file open. Threads vanish while they are looked at."""
    try:
        return any(_has_entries(task / "fd") for task in Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return False


def _has_entries(directory: Path) -> bool:
    try:
        return any(directory.iterdir())
    except OSError:
        return False


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Whether the condition came true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True
