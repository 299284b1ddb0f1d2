"""The local fleet: Kafka and workers under one directory, to be started, looked at and stopped together."""

from __future__ import annotations

import asyncio
import fcntl
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.catalogue import ROLES, SPLIT
from app.local.errors import LocalFleetError
from app.local.kafka import LocalKafka
from app.local.ports import check_free
from app.local.processes import wait_until
from app.local.topics import make_topics
from app.local.workers import LocalWorker
from app.runtime.settings import Settings, load_settings

READY_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Plan:
    """What is to run: workers of the role `all`, or one worker per role. With `brokers`, no Kafka of its own."""

    split: bool = False
    workers: int = 2
    port: int = 29092
    web_port: int = 6066
    brokers: str | None = None

    @property
    def roles(self) -> list[str]:
        """The role of each worker."""
        return list(SPLIT) if self.split else ["all"] * self.workers


class LocalFleet:
    """One fleet under `directory`. Data outlives it; so does, between two commands, what runs."""

    def __init__(self, directory: Path, plan: Plan) -> None:
        self.directory = directory.resolve()
        self.plan = plan
        own = plan.brokers is None
        self.kafka = LocalKafka(self.directory / "kafka", plan.port, lib=self.directory / "lib") if own else None
        self.brokers = plan.brokers or f"127.0.0.1:{plan.port}"
        self.workers = self._workers()

    @classmethod
    def known(cls, directory: Path) -> LocalFleet | None:
        """The fleet that was last started under the directory."""
        try:
            told = json.loads((directory / "fleet.json").read_text())
            return cls(directory, Plan(**told["plan"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @property
    def running(self) -> bool:
        """Whether any process of it runs."""
        return any(worker.pid for worker in self.workers) or (self.kafka is not None and self.kafka.pid is not None)

    def up(self, *, with_parent: bool = False, say: Callable[[str], None] = lambda text: None) -> None:
        """Start what does not run, and wait until all of it is ready."""
        settings = self._settings()
        for worker in self.workers:
            if worker.pid is None:
                check_free(worker.web_port)  # before the rest is started in vain
        self.directory.mkdir(parents=True, exist_ok=True)
        self._remember(self._last_roles())
        if self.kafka is not None:
            say(f"Starting Kafka on {self.brokers} …")
            self.kafka.start(with_parent=with_parent)
        self._make_topics(settings)
        say(f"Starting {len(self.workers)} workers: {', '.join(f'{w.name} ({w.role})' for w in self.workers)} …")
        for worker in self.workers:
            worker.start(with_parent=with_parent)
        self._until_ready()
        self._remember(sorted(set(self.plan.roles)))

    def make_topics(self) -> list[str]:
        """Make the topics that are not there; their names."""
        return self._make_topics(self._settings())

    def _make_topics(self, s: Settings) -> list[str]:
        return asyncio.run(make_topics(s))

    def _settings(self) -> Settings:
        return load_settings().model_copy(update={"brokers": self.brokers})

    def down(self) -> None:
        """Stop the workers, then Kafka."""
        # All at once: one after the other, each would take over what the one before had served.
        with ThreadPoolExecutor(max_workers=len(self.workers)) as at_once:
            list(at_once.map(LocalWorker.stop, self.workers))
        if self.kafka is not None:
            self.kafka.stop()

    def _until_ready(self) -> None:
        def ready() -> bool:
            if self.kafka is not None:
                self.kafka.check_alive()
            for worker in self.workers:
                worker.check_alive()
            return all((worker.readiness() or {}).get("ready") for worker in self.workers)

        if not wait_until(ready, READY_TIMEOUT_S):
            late = [worker for worker in self.workers if not (worker.readiness() or {}).get("ready")]
            told = "; ".join(f"{worker.name}: {_why(worker.readiness())} (see {worker.log_file})" for worker in late)
            raise LocalFleetError(f"not ready after {READY_TIMEOUT_S:.0f} s: {told}")

    # Regrouping: the state of other roles is taken over only where this fleet itself stopped them.

    def _workers(self) -> list[LocalWorker]:
        foreign = self._foreign_ids()
        adopt = {"FLEET_ADOPT": ",".join(foreign)} if foreign else {}
        counts: dict[str, int] = {}
        workers = []
        for number, role in enumerate(self.plan.roles):
            counts[role] = counts.get(role, 0) + 1
            name = f"{'worker' if role == 'all' else role}-{counts[role]}"
            workers.append(
                LocalWorker(name, role, self.plan.web_port + number, self.directory, self.brokers, settings=adopt)
            )
        return workers

    def _foreign_ids(self) -> list[str]:
        now = set(self.plan.roles)
        before = [role for role in self._last_roles() if role not in now and role in ROLES]
        return [id_ for role in before for id_ in _transactional_ids(role)]

    def _last_roles(self) -> list[str]:
        try:
            told = json.loads((self.directory / "fleet.json").read_text())
            return [str(role) for role in told["roles"]]
        except (OSError, ValueError, KeyError, TypeError):
            return []

    def _remember(self, roles: Sequence[str]) -> None:
        told: dict[str, Any] = {"plan": vars(self.plan), "roles": list(roles)}
        (self.directory / "fleet.json").write_text(json.dumps(told, indent=1))


@contextmanager
def one_at_a_time(directory: Path, say: Callable[[str], None] = lambda text: None) -> Iterator[None]:
    """Only one process at a time starts a fleet under the directory; the next waits, and then finds it running."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("A fleet is being started here already: waiting for it …")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _transactional_ids(role: str) -> list[str]:
    settings = load_settings().model_copy(update={"role": role})
    return [settings.transactional_id(bucket) for bucket in range(settings.buckets)]


def _why(readiness: dict[str, Any] | None) -> str:
    if readiness is None:
        return "it does not answer"
    if readiness.get("refusals"):
        return str(readiness["refusals"][0])
    return str(readiness.get("waiting_for") or "its tables are being restored")
