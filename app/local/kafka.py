"""A real Apache Kafka on this machine: a node in KRaft mode, with nothing installed but Python packages."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path
from typing import Literal

from app.local.errors import LocalFleetError
from app.local.inspection import cpu_seconds, rss_bytes
from app.local.jars import check_space, class_path, java
from app.local.logs import begin_run, last_error
from app.local.node import Node, single
from app.local.ports import check_free
from app.local.processes import pid_in, remember, spawn, stop, wait_until

Profile = Literal["light", "full"]
"""`light` starts fast and stays small, for development and tests; `full` lets the JVM optimise, for benchmarks."""

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
CLUSTER_ID = "RXZlbnRmbGVldC1sb2NhbA"
LIGHT = ("-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xss512k")
FULL = ("-Xms256m", "-Xmx1g")

LOGGING = {"defaultLogLevel": "warn", "showDateTime": "true", "dateTimeFormat": "HH:mm:ss", "showThreadName": "false"}


class LocalKafka:
    """One broker with its data under `directory`. The data outlives the process.

    Alone it is the node of a cluster of one, at `port`; a `LocalCluster` gives each of its own a `node`.
    """

    def __init__(
        self,
        directory: Path,
        port: int = 29092,
        profile: Profile = "light",
        lib: Path = Path(".fleet/lib"),
        node: Node | None = None,
    ) -> None:
        self.directory = directory.resolve()
        self.node = node or single(port)
        self.port = self.node.port
        self.profile: Profile = profile
        self._lib = lib.resolve()
        self._pid_file = self.directory / "pid"
        self._mark = str(self.directory / "server.properties")

    @property
    def brokers(self) -> str:
        """Bootstrap servers."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """The broker's pid, where it runs."""
        return pid_in(self._pid_file, self._mark)

    @property
    def log_file(self) -> Path:
        """Where the broker writes what it has to say."""
        return self.directory / "kafka.log"

    def start(self, *, with_parent: bool = False) -> None:
        """Start it where it does not run, and wait until it answers. `with_parent`: it dies with this process."""
        if self.pid is None:
            self._start(with_parent=with_parent)
            return
        wait_until(lambda: self._answers() or self.pid is None, START_TIMEOUT_S)
        self.check_alive()
        if not self._answers():
            raise LocalFleetError(
                f"Kafka runs but does not answer at {self.brokers}: stop it with `fleet down` and start it again, "
                f"or see {self.log_file}"
            )

    def _start(self, *, with_parent: bool) -> None:
        self.prepare()
        self.launch(with_parent=with_parent)
        self.wait()

    def prepare(self) -> None:
        """Write its settings, and format its storage the first time."""
        self.directory.mkdir(parents=True, exist_ok=True)
        check_space(self.directory)
        for port in self.node.ports:
            check_free(port)
        self._write_settings()
        self._format(self._java_command())

    def launch(self, *, with_parent: bool = False) -> None:
        """Start the process, where it does not run; it answers later (see `wait`)."""
        if self.pid is None:
            command = [*self._java_command(), "kafka.Kafka", self._mark]
            remember(self._pid_file, spawn(command, self.log_file, with_parent=with_parent, cwd=self.directory))

    def wait(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Return when it answers; where it does not start, stop it and raise with what it said."""
        wait_until(lambda: self._answers() or self.pid is None, timeout_s)
        if self.pid is None or not self._answers():
            self.stop()
            raise LocalFleetError(f"Kafka did not start: {last_error(self.log_file)} (see {self.log_file})")

    def check_alive(self) -> None:
        """Raise, with the log's last words, where it has died."""
        if self.pid is None:
            raise LocalFleetError(f"Kafka has died: {last_error(self.log_file)} (see {self.log_file})")

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Stop it, cleanly if it lets itself be."""
        if (pid := self.pid) is not None:
            stop(pid, self._mark, timeout_s=timeout_s)
        self._pid_file.unlink(missing_ok=True)

    def cpu_seconds(self) -> float:
        """CPU time of the broker so far."""
        return cpu_seconds(self.pid or 0)

    def rss_bytes(self) -> int:
        """Resident memory of the broker."""
        return rss_bytes(self.pid or 0)

    def _java_command(self) -> list[str]:
        flags = LIGHT if self.profile == "light" else FULL
        logging = [f"-Dorg.slf4j.simpleLogger.{name}={value}" for name, value in LOGGING.items()]
        return [str(java()), *flags, *logging, "-cp", class_path(self._lib)]

    def _write_settings(self) -> None:
        settings = self.node.settings(self.directory)
        Path(self._mark).write_text("".join(f"{name}={value}\n" for name, value in settings.items()))

    def _format(self, java_command: list[str]) -> None:
        """Format once. A bare meta.properties would do to start, but leaves the feature levels at zero."""
        if (self.directory / "data" / "meta.properties").exists():
            return
        shutil.rmtree(self.directory / "data", ignore_errors=True)
        command = [*java_command, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", self._mark]
        with self.log_file.open("ab") as out:
            begin_run(out)
            try:
                code = subprocess.run(
                    command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, check=False, timeout=START_TIMEOUT_S
                ).returncode
            except subprocess.TimeoutExpired:
                code = None
        if code != 0:
            why = f"not done after {START_TIMEOUT_S:.0f} s" if code is None else last_error(self.log_file)
            raise LocalFleetError(f"Kafka's storage could not be formatted: {why} (see {self.log_file})")

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                # Within the ephemeral range the loopback can connect to itself.
                return bool(connection.getsockname() != connection.getpeername())
        except OSError:
            return False
