"""Worker processes on this machine: `faust -A app.main worker`, one per role or several of one role."""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.local.errors import LocalFleetError
from app.local.inspection import cpu_seconds, rss_bytes
from app.local.logs import last_error
from app.local.ports import check_free
from app.local.processes import pid_in, remember, spawn, stop

STOP_TIMEOUT_S = 30.0
"""Less than what the manifests grant (terminationGracePeriodSeconds); in an outage the deadlines add up to 15 s."""
PROBE_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class LocalWorker:
    """One worker process. `directory` is the local fleet's; `settings` are further FLEET_ variables."""

    name: str
    role: str
    web_port: int
    directory: Path
    brokers: str
    settings: Mapping[str, str] = field(default_factory=dict)
    application: str = "app.main"

    @property
    def url(self) -> str:
        """Where its views are."""
        return f"http://127.0.0.1:{self.web_port}"

    @property
    def log_file(self) -> Path:
        """Where it writes what it has to say."""
        return self.directory / "logs" / f"{self.name}.log"

    @property
    def data_dir(self) -> Path:
        """Its tables."""
        return self.directory / "data" / self.name

    @property
    def pid(self) -> int | None:
        """Its pid, where it runs."""
        return pid_in(self._pid_file, self.application)

    @property
    def _pid_file(self) -> Path:
        return self.directory / "run" / f"{self.name}.pid"

    def start(self, *, with_parent: bool = False) -> None:
        """Start it; readiness comes later. `with_parent`: it dies with this process."""
        if self.pid is not None:
            return
        check_free(self.web_port)
        for parent in (self.log_file.parent, self._pid_file.parent, self.data_dir):
            parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "faust", "-A", self.application, "worker", "-l", "info"]
        pid = spawn(command, self.log_file, with_parent=with_parent, env=self._environment())
        remember(self._pid_file, pid)

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "FLEET_BROKERS": self.brokers,
            "FLEET_WORKER": self.name,
            "FLEET_ROLE": self.role,
            "FLEET_DATA_DIR": str(self.data_dir),
            "FLEET_WEB_PORT": str(self.web_port),
            **self.settings,
        }

    def stop(self) -> bool:
        """Stop it; whether it went by itself."""
        clean = True
        if (pid := self.pid) is not None:
            clean = stop(pid, self.application, timeout_s=STOP_TIMEOUT_S)
        self._pid_file.unlink(missing_ok=True)
        return clean

    def readiness(self) -> dict[str, Any] | None:
        """What /readyz says; `None` while nothing answers."""
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=PROBE_TIMEOUT_S) as answer:
                body: dict[str, Any] = json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                body = json.load(error)
        except (OSError, ValueError):
            return None
        return body

    def check_alive(self) -> None:
        """Raise, with the log's last words, where it has died."""
        if self.pid is None:
            raise LocalFleetError(f"worker {self.name} has stopped: {last_error(self.log_file)} (see {self.log_file})")

    def cpu_seconds(self) -> float:
        """CPU time so far."""
        return cpu_seconds(self.pid or 0)

    def rss_bytes(self) -> int:
        """Resident memory."""
        return rss_bytes(self.pid or 0)
