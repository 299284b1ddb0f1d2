"""TCP ports on the loopback."""

from __future__ import annotations

import errno
import os
import socket
import uuid
from pathlib import Path

from app.local.errors import LocalFleetError

LOWEST, HIGHEST = 20_000, 32_000
"""Below the range from which outgoing connections take theirs."""
LAST = 65_535
LISTENS = "0A"


def check_free(port: int) -> None:
    """Refuse a port that something listens on, or that is none."""
    if not 0 < port <= LAST:
        raise LocalFleetError(f"{port} is no port: choose one from 1 to {LAST - 1:,} with --port or --web-port")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno == errno.EACCES:
                raise LocalFleetError(
                    f"port {port} is reserved to the superuser: choose one above 1,023 with --port or --web-port"
                ) from error
            raise LocalFleetError(
                f"port {port} is taken{_by_whom(port)}: stop what listens there, or choose another with --port or "
                "--web-port"
            ) from error


def free_ports(count: int = 2) -> int:
    """The first of `count` free ports in a row."""
    start = LOWEST + (os.getpid() * 13 + uuid.uuid4().int) % (HIGHEST - LOWEST - 2_000)
    for first in range(start, start + 2_000, count):
        try:
            for port in range(first, first + count):
                check_free(port)
        except LocalFleetError:
            continue
        return first
    raise LocalFleetError(f"no {count} free ports in a row were found between {LOWEST} and {HIGHEST}")


def _by_whom(port: int) -> str:
    """Who listens there, as far as this system and this user may know it."""
    sockets = {f"socket:[{inode}]" for inode in _listening(port)}
    if not sockets:
        return ""
    for handle in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.readlink(handle) in sockets:
                pid = handle.parts[2]
                return f" by process {pid} ({Path('/proc', pid, 'comm').read_text().strip()})"
        except OSError:  # it ended meanwhile, or is another user's
            continue
    return ""


def _listening(port: int) -> list[str]:
    """The inodes of the sockets that listen on the port."""
    inodes = []
    for table in ("tcp", "tcp6"):
        try:
            lines = Path("/proc/net", table).read_text().splitlines()[1:]
        except OSError:
            continue
        rows = [line.split() for line in lines]
        inodes += [row[9] for row in rows if row[3] == LISTENS and int(row[1].rpartition(":")[2], 16) == port]
    return inodes
