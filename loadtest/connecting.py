"""Kafka clients that either start or say in one sentence why not, and that end in bounded time."""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka.errors import KafkaError

from app.kernel.errors import BrokerUnavailable

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0


async def start(client: Any, brokers: str) -> None:
    """Start an aiokafka client. One that cannot start is stopped again: it would hold its connections for ever."""
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            await client.start()
    except asyncio.CancelledError:
        await stop(client)
        raise
    except (KafkaError, OSError) as error:
        await stop(client)
        raise BrokerUnavailable(
            f"no Kafka answers at {brokers}: start one with `fleet up`, or set FLEET_BROKERS to one that runs"
        ) from error


async def stop(client: Any) -> None:
    """Stop an aiokafka client, as far as it lets itself be stopped: with brokers away it would wait for them."""
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await client.stop()
    except (KafkaError, TimeoutError):
        return
