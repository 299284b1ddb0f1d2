"""Whose connection is it? On the loopback the other end is a process, and Linux tells which."""

from __future__ import annotations

import os
from pathlib import Path

PROC = Path("/proc")
LOOPBACK = ("0100007F", "0000000000000000FFFF00000100007F")


def sockets_of(pid: int) -> set[int]:
    """The inodes of the sockets that a process holds; none where it is gone."""
    found: set[int] = set()
    try:
        handles = os.listdir(PROC / str(pid) / "fd")
    except OSError:
        return found
    for handle in handles:
        try:
            target = os.readlink(PROC / str(pid) / "fd" / handle)
        except OSError:
            continue
        if target.startswith("socket:["):
            found.add(int(target[8:-1]))
    return found


def inodes_of_connections(to_port: int) -> dict[int, int]:
    """By their own port, the inodes of the loopback's connections to a port, as their clients hold them."""
    found = {}
    for table in ("tcp", "tcp6"):
        try:
            lines = (PROC / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            host, _, port = fields[2].rpartition(":")
            if host in LOOPBACK and int(port, 16) == to_port:
                found[int(fields[1].rpartition(":")[2], 16)] = int(fields[9])
    return found
