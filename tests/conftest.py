"""What tests of every kind share: a real Kafka, and a prefix of one's own for topics on it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.local.kafka import LocalKafka
from app.local.ports import free_ports
from tests.redis_server import RedisServer

ROOT = Path(__file__).parents[1]

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    """A Kafka of the tests' own: its own port, its own data, gone at the end."""
    broker = LocalKafka(tmp_path_factory.mktemp("kafka"), free_ports(2), lib=ROOT / ".fleet" / "lib")
    broker.start(with_parent=True)
    try:
        yield broker
    finally:
        broker.stop()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis of the tests' own."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
def topic_prefix() -> str:
    """A prefix that no other test has."""
    return f"t{next(_numbers)}."
