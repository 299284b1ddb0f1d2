"""The log files of processes, which outlive their runs: where a run begins in one, and what it said last."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

BEGIN = "--- started "
TAIL_BYTES = 1 << 18
ERRORS = ("ERROR", "FATAL", "CRITICAL", "Error", "Exception")


def begin_run(out: BinaryIO) -> None:
    """Write the line that divides this run from those before."""
    out.write(f"{BEGIN}{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC\n".encode())
    out.flush()


def last_error(file: Path) -> str:
    """The last line of the last run that tells of an error; where there is none, its last line."""
    try:
        with file.open("rb") as log:
            log.seek(max(0, file.stat().st_size - TAIL_BYTES))
            text = log.read().decode(errors="replace")
    except OSError:
        return "it left no log"
    lines = [line for line in text.rpartition(BEGIN)[2].splitlines()[1:] if line.strip()]
    errors = [line for line in lines if any(word in line for word in ERRORS) and not line.startswith(("\t", "  "))]
    return (errors or lines or ["it said nothing"])[-1].strip()
