"""The local fleet before anything of it runs: plans, what is remembered, and refusals that start nothing."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import click
import pytest
from aiokafka.errors import KafkaTimeoutError
from click.testing import CliRunner

from app.catalogue import SPLIT
from app.cli.main import Group
from app.kernel.errors import ConfigurationRefused
from app.local.errors import LocalFleetError
from app.local.fleet import LocalFleet, Plan, one_at_a_time
from app.local.ports import free_ports
from app.local.processes import wait_until
from app.local.workers import LocalWorker

DEADLINE_S = 20.0


def test_a_split_fleet_has_one_worker_of_each_role(tmp_path: Path) -> None:
    fleet = LocalFleet(tmp_path, Plan(split=True))
    assert [worker.role for worker in fleet.workers] == list(SPLIT)
    assert len({worker.web_port for worker in fleet.workers}) == len({worker.name for worker in fleet.workers})
    assert [worker.name for worker in LocalFleet(tmp_path, Plan(workers=3)).workers] == [
        "worker-1",
        "worker-2",
        "worker-3",
    ]


def test_with_brokers_of_ones_own_no_kafka_is_started(tmp_path: Path) -> None:
    fleet = LocalFleet(tmp_path, Plan(brokers="kafka-1:9092"))
    assert fleet.kafka is None
    assert {worker.brokers for worker in fleet.workers} == {"kafka-1:9092"}


@pytest.mark.parametrize("text", [None, "", "[]", '{"plan": {"wheels": 4}, "roles": []}'])
def test_a_fleet_whose_record_is_damaged_is_unknown(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "fleet.json").write_text(text)
    assert LocalFleet.known(tmp_path) is None


def test_workers_take_over_what_the_fleets_own_former_roles_held(tmp_path: Path) -> None:
    (tmp_path / "fleet.json").write_text(json.dumps({"plan": {}, "roles": ["all"]}))
    for worker in LocalFleet(tmp_path, Plan(split=True)).workers:
        assert worker.settings["FLEET_ADOPT"] == "eventfleet-all-0,eventfleet-all-1"
    for worker in LocalFleet(tmp_path, Plan()).workers:
        assert "FLEET_ADOPT" not in worker.settings


def test_wrong_settings_start_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_PARTITIONS", "many")
    fleet = LocalFleet(tmp_path / "fleet", Plan())
    with pytest.raises(ConfigurationRefused, match="FLEET_PARTITIONS"):
        fleet.up()
    assert not fleet.directory.exists()


def test_a_workers_port_that_is_taken_starts_nothing(tmp_path: Path) -> None:
    port = free_ports(4)
    fleet = LocalFleet(tmp_path / "fleet", Plan(port=port, web_port=port + 2))
    with (
        socket.create_server(("127.0.0.1", port + 3)),
        pytest.raises(LocalFleetError, match=f"port {port + 3} is taken"),
    ):
        fleet.up()
    assert not fleet.running
    assert not fleet.directory.exists()


def test_a_worker_that_died_is_told_with_its_last_words(tmp_path: Path) -> None:
    worker = LocalWorker("one", "all", free_ports(1), tmp_path, "127.0.0.1:1", application="no_such_application")
    worker.start(with_parent=True)
    assert wait_until(lambda: worker.pid is None, DEADLINE_S)
    with pytest.raises(LocalFleetError, match=r"worker one has stopped: .*no_such_application.* \(see .*one\.log\)"):
        worker.check_alive()
    assert worker.readiness() is None
    assert worker.stop(), "what is gone needs no force"


def test_of_two_that_start_a_fleet_at_once_one_waits_and_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    entered = threading.Event()

    def second() -> None:
        with one_at_a_time(tmp_path, said.append):
            entered.set()

    other = threading.Thread(target=second)
    with one_at_a_time(tmp_path):
        other.start()
        assert wait_until(lambda: bool(said), DEADLINE_S)
        assert not entered.is_set()
    other.join(DEADLINE_S)
    assert entered.is_set()
    assert "waiting" in said[0]


def test_what_brokers_do_is_told_in_a_sentence() -> None:
    """A time-out in the middle of a command is no defect of ours: no stack trace."""

    @click.group(cls=Group)
    def commands() -> None: ...

    @commands.command()
    def ask() -> None:
        raise KafkaTimeoutError("no answer")

    told = CliRunner().invoke(commands, ["ask"])
    assert told.exit_code == 1
    assert "no answer" in told.output
    assert "Traceback" not in told.output
