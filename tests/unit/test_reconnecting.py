"""A broker that is away is not asked all the time."""

from __future__ import annotations

import itertools
from typing import Any

import aiokafka.client
import aiokafka.conn
import pytest
from aiokafka.errors import KafkaConnectionError

from app.runtime.kafka.reconnecting import PAUSE_S_MAX, PAUSE_S_MIN, Reconnecting, pause_before_reconnecting


class Network:
    """Counts who is asked; brokers of `away` refuse."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.away: set[tuple[str, int]] = set()
        self.asked: list[tuple[str, int]] = []
        self.clients = Reconnecting(self._connect, lambda: self.now_s, self._sleep)

    async def _connect(self, host: str, port: int, **options: Any) -> str:
        self.asked.append((host, port))
        if (host, port) in self.away:
            raise KafkaConnectionError("refused")
        return f"{host}:{port} {sorted(options)}"

    async def _sleep(self, seconds: float) -> None:
        self.now_s += seconds

    async def refused(self, port: int = 1, **options: Any) -> None:
        with pytest.raises(KafkaConnectionError):
            await self.clients.connect("a", port, **options)


def closed() -> None:
    """What a client that has several connections wants called."""


async def test_connections_are_made_with_the_clients_own_options() -> None:
    assert await Network().clients.connect("a", 1, ssl_context=None) == "a:1 ['ssl_context']"


async def test_a_client_with_a_choice_is_told_at_once_during_the_pause_and_others_are_not_concerned() -> None:
    network = Network()
    network.away = {("a", 1)}
    await network.refused(on_close=closed)
    await network.refused(on_close=closed)
    assert network.asked == [("a", 1)]
    assert await network.clients.connect("a", 2, on_close=closed)
    network.now_s += PAUSE_S_MIN
    await network.refused(on_close=closed)
    assert network.asked == [("a", 1), ("a", 2), ("a", 1)]


async def test_a_client_that_looks_for_its_first_broker_waits_for_the_end_of_the_pause() -> None:
    network = Network()
    network.away = {("a", 1)}
    await network.refused()
    network.away = set()
    assert await network.clients.connect("a", 1)
    assert network.now_s == 100.0 + PAUSE_S_MIN


async def test_pauses_grow_up_to_a_limit_and_begin_anew_after_a_success() -> None:
    network = Network()
    network.away = {("a", 1)}
    moments = []
    for _ in range(8):
        await network.refused()
        moments.append(network.now_s)
    pauses = [round(b - a, 6) for a, b in itertools.pairwise(moments)]
    assert pauses[:3] == [PAUSE_S_MIN, 2 * PAUSE_S_MIN, 4 * PAUSE_S_MIN]
    assert pauses[-1] == PAUSE_S_MAX == max(pauses)
    network.away = set()
    await network.clients.connect("a", 1)
    network.away = {("a", 1)}
    await network.refused()
    before_s = network.now_s
    await network.refused()
    assert round(network.now_s - before_s, 6) == PAUSE_S_MIN


def test_every_client_of_the_process_pauses_and_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clients: Any = aiokafka.client
    monkeypatch.setattr(clients, "create_conn", aiokafka.conn.create_conn)
    pause_before_reconnecting()
    once = clients.create_conn
    assert isinstance(once.__self__, Reconnecting)
    pause_before_reconnecting()
    assert clients.create_conn is once
