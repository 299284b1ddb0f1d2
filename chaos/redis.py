"""A Redis of the stage's own, where this machine has one: the bus of the workers' notifications."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from pathlib import Path

from app.local.errors import LocalFleetError
from app.local.processes import pid_in, remember, spawn, stop, wait_until

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5.0


class StageRedis:
    """One redis-server that keeps nothing."""

    def __init__(self, directory: Path, port: int) -> None:
        self.port = port
        self._directory = directory
        self._pid_file = directory / "pid"
        self._mark = f"127.0.0.1:{port}"  # redis-server tells it in its own command line

    @property
    def here(self) -> bool:
        """Whether this machine has a redis-server at all."""
        return shutil.which("redis-server") is not None

    @property
    def url(self) -> str:
        """For FLEET_REDIS_URL."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int | None:
        """Its pid, where it runs."""
        return pid_in(self._pid_file, self._mark)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._directory.mkdir(parents=True, exist_ok=True)
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no"]
        pid = spawn(command, self._directory / "redis.log", with_parent=True, cwd=self._directory)
        remember(self._pid_file, pid)
        if not wait_until(self._answers, START_TIMEOUT_S):
            raise LocalFleetError(f"redis-server did not start: see {self._directory / 'redis.log'}")

    def kill(self) -> None:
        """kill -9."""
        if (pid := self.pid) is not None:
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: self.pid is None, STOP_TIMEOUT_S)

    def stop(self) -> None:
        """Stop it."""
        if (pid := self.pid) is not None:
            stop(pid, self._mark, timeout_s=STOP_TIMEOUT_S)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False
