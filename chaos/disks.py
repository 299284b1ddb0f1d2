"""A disk of one's own that can fill up: a small tmpfs where the system allows it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

SIZE_BYTES = 96 << 20
MOUNT_TIMEOUT_S = 10.0
FILLER = "filler"


class SmallDisk:
    """A worker's data directory on a tmpfs. Where it cannot be mounted (that takes root), `why_not` says so."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.why_not = _run("mount", "-t", "tmpfs", "-o", f"size={SIZE_BYTES}", "tmpfs", str(directory))

    def fill(self) -> int:
        """Leave no byte free; how many were taken."""
        taken = 0
        with (self.directory / FILLER).open("wb", buffering=0) as filler:
            for size in (1 << 20, 1 << 12, 1):
                try:
                    while taken < SIZE_BYTES:
                        taken += filler.write(bytes(size))
                except OSError:
                    continue
        return taken

    def empty(self) -> None:
        """Give the space back."""
        (self.directory / FILLER).unlink(missing_ok=True)


def unmount(directory: Path) -> None:
    """Make it an ordinary directory again, where it was a disk of its own."""
    if os.path.ismount(directory):
        _run("umount", "-l", str(directory))


def _run(*command: str) -> str | None:
    """What a command that failed had to say."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=MOUNT_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if done.returncode == 0 else done.stderr.strip() or f"{command[0]} failed"
