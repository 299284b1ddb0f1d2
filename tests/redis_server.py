"""A real Redis for tests: Debian's `redis-server`, on a port of its own, with nothing on disk."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from app.local.ports import free_ports
from app.local.processes import wait_until

SERVER = "redis-server"
START_TIMEOUT_S = 20.0


class RedisServer:
    """One server, to be killed, hung and started again by tests. To have none is an error, and no reason to skip."""

    def __init__(self, directory: Path) -> None:
        if shutil.which(SERVER) is None:
            raise FileNotFoundError(f"these tests need a real {SERVER}: run `make tools`, which says how to get it")
        self._port = free_ports(1)
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [SERVER, "--port", str(self._port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        with (self._directory / "redis.log").open("ab") as out:
            self._process = subprocess.Popen(command, cwd=self._directory, stdout=out, stderr=out)
        assert wait_until(self._answers, START_TIMEOUT_S), (self._directory / "redis.log").read_text()

    def hang(self) -> None:
        """It lives, and does nothing."""
        self._signal(signal.SIGSTOP)

    def wake(self) -> None:
        """It goes on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """As in a crash. It may be started again."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def _signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=1.0) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False
