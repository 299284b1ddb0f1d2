"""The last look before a program ends: no child of its own may stay behind."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

TIMEOUT_S = 10.0
POLL_S = 0.05


def children() -> list[int]:
    """The pids of this process's living children; none where the system does not tell (it is not Linux)."""
    pids: list[int] = []
    for file in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            pids += map(int, file.read_text().split())
    return pids


def end_children(timeout_s: float = TIMEOUT_S) -> None:
    """End those children that nobody knows any more: SIGTERM, and SIGKILL past the time-out.

    An interrupt that comes while a process is being started leaves one that no pid file names yet.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + timeout_s
        while children() and time.monotonic() < deadline:
            _reap()
            time.sleep(POLL_S)


def _reap() -> None:
    for pid in children():
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
