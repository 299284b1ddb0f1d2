"""TCP ports on the loopback."""

from __future__ import annotations

import os
import socket
import uuid

from app.local.errors import LocalFleetError

LOWEST, HIGHEST = 20_000, 32_000
"""Below the range from which outgoing connections take theirs."""


def check_free(port: int) -> None:
    """Refuse a port that something listens on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise LocalFleetError(
                f"port {port} is taken: stop what listens there, or choose another with --port or --web-port"
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
