"""What the operating system tells about a process: from /proc, or from `ps` where there is none."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

PROC = Path("/proc")
PS_TIMEOUT_S = 5.0


def command_line(pid: int) -> str:
    """How the process was started; empty where it is gone, or only waits to be reaped."""
    if not _has_proc():
        return "" if _ps("stat=", pid).startswith("Z") else _ps("command=", pid)
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def started(pid: int) -> str:
    """When it began, in the system's own words. With the pid it names one process, even after pids were used again."""
    if not _has_proc():
        return "_".join(_ps("lstart=", pid).split())
    fields = _stat(pid)
    return fields[19] if fields else ""


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far; 0 where it is gone."""
    if not _has_proc():
        return seconds_in(_ps("time=", pid))
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else 0.0


def rss_bytes(pid: int) -> int:
    """Resident memory of a process; 0 where it is gone."""
    if not _has_proc():
        return int(_ps("rss=", pid) or 0) << 10
    try:
        pages = int((PROC / str(pid) / "statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _has_proc() -> bool:
    return (PROC / "self" / "stat").exists()


def _stat(pid: int) -> list[str]:
    """The fields after the name, which may itself hold blanks and brackets; none where the process is gone."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _ps(column: str, pid: int) -> str:
    told = subprocess.run(
        ["ps", "-ww", "-o", column, "-p", str(pid)], capture_output=True, text=True, check=False, timeout=PS_TIMEOUT_S
    )
    return told.stdout.strip()


def seconds_in(time: str) -> float:
    """The seconds in [[days-]hours:]minutes:seconds, as `ps` writes CPU time; 0 where it wrote nothing."""
    days, _, rest = time.rpartition("-")
    seconds = 0.0
    for part in rest.split(":"):
        seconds = seconds * 60 + float(part or 0)
    return seconds + int(days or 0) * 86_400
