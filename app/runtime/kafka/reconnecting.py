"""How soon a broker that could not be reached is tried again, by all clients of the process together.

aiokafka has no such pause: each of a worker's dozen clients asks for a connection twenty times a second as long as a
broker is away, which takes the processor from the very brokers that are about to come back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiokafka.client
from aiokafka.errors import KafkaConnectionError, KafkaError

PAUSE_S_MIN, PAUSE_S_MAX = 0.05, 0.5
"""Kafka's own clients begin alike (reconnect.backoff.ms) and end at a second."""

Connect = Callable[..., Awaitable[Any]]


class Reconnecting:
    """Connects, but to an address that has just failed only after a pause, which doubles with each failure."""

    def __init__(
        self,
        connect: Connect,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._connect, self._now, self._sleep = connect, now, sleep
        self._failed: dict[tuple[str, int], tuple[int, float]] = {}
        """By address: how often it has failed in a row, and when it may be tried again."""

    async def connect(self, host: str, port: int, **options: Any) -> Any:
        """A connection, as `aiokafka.conn.create_conn` makes it.

        During the pause a client that looks for its first broker waits. One that has a choice (it wants to know when
        the connection closes) is told at once, `KafkaConnectionError`, and asks another broker meanwhile.
        """
        failures, again_s = self._failed.get((host, port), (0, 0.0))
        if (pause_s := again_s - self._now()) > 0:
            if options.get("on_close") is not None:
                raise KafkaConnectionError(f"{host}:{port} has failed {failures} times; it is tried again shortly")
            await self._sleep(pause_s)
        try:
            connection = await self._connect(host, port, **options)
        except (OSError, KafkaError, TimeoutError):
            self._failed[host, port] = failures + 1, self._now() + min(PAUSE_S_MIN * 2**failures, PAUSE_S_MAX)
            raise
        self._failed.pop((host, port), None)
        return connection


def pause_before_reconnecting() -> None:
    """Let every aiokafka client of the process do so. Once; a second call changes nothing."""
    clients: Any = aiokafka.client
    if not isinstance(getattr(clients.create_conn, "__self__", None), Reconnecting):
        clients.create_conn = Reconnecting(clients.create_conn).connect
