"""The local Kafka: a real broker that keeps its data, is found again, and says what is wrong."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.local.errors import LocalFleetError
from app.local.kafka import LocalKafka
from app.local.ports import check_free, free_ports
from app.local.processes import wait_until
from app.runtime.kafka.admin import ensure_topics, list_topics
from app.runtime.topics import Topics
from tests.conftest import ROOT

LIB = ROOT / ".fleet" / "lib"
DEADLINE_S = 20.0


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[LocalKafka]:
    """A Kafka of the test's own, not yet started."""
    made = LocalKafka(tmp_path / "kafka", free_ports(2), lib=LIB)
    try:
        yield made
    finally:
        made.stop()


async def test_data_outlives_a_stop_and_a_death_is_told(broker: LocalKafka) -> None:
    topics = Topics("kept.").of_category("orders")
    broker.start(with_parent=True)
    await ensure_topics(broker.brokers, topics, 2, 1)
    broker.stop()
    assert not broker.log_file.read_text().count("ERROR")
    for port in (broker.port, broker.port + 1):
        check_free(port)
    broker.start(with_parent=True)
    assert (await list_topics(broker.brokers))[topics[0].name] == 2
    pid = broker.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: broker.pid is None, DEADLINE_S)
    with pytest.raises(LocalFleetError, match=r"Kafka has died: .* \(see .*kafka\.log\)"):
        broker.check_alive()


def test_a_broker_that_runs_is_found_and_not_started_twice(kafka: LocalKafka) -> None:
    again = LocalKafka(kafka.directory, kafka.port, lib=LIB)
    again.start()
    assert again.pid == kafka.pid
    assert again.rss_bytes() > 50 << 20
    assert again.cpu_seconds() > 0


def test_the_storage_has_the_features_that_transactions_need(kafka: LocalKafka) -> None:
    written = (kafka.directory / "data" / "bootstrap.checkpoint").read_bytes()
    name = b"transaction.version"
    assert name in written
    assert written[written.index(name) + len(name) :][:2] == b"\x00\x02"


def test_a_port_that_is_taken_is_named_and_nothing_is_begun(broker: LocalKafka) -> None:
    controllers = broker.port + 1
    with (
        socket.create_server(("127.0.0.1", controllers)),
        pytest.raises(LocalFleetError, match=f"port {controllers} is taken by process {os.getpid()}"),
    ):
        broker.start(with_parent=True)
    assert not (broker.directory / "data").exists()


def test_a_broker_that_cannot_start_tells_why(broker: LocalKafka) -> None:
    data = broker.directory / "data"
    data.mkdir(parents=True)
    (data / "meta.properties").write_text("version=1\nnode.id=7\ncluster.id=another\n")
    with pytest.raises(LocalFleetError, match=r"Kafka did not start: .*node.*7.* \(see .*kafka\.log\)"):
        broker.start(with_parent=True)
    assert broker.pid is None


def test_a_java_that_cannot_start_tells_why(broker: LocalKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.local.kafka.LIGHT", ("-Xms8m", "-Xmx4m"))
    with pytest.raises(LocalFleetError, match=r"could not be formatted: .*initialization of VM.* \(see .*kafka\.log\)"):
        broker.start(with_parent=True)
