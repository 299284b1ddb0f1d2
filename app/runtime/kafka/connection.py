"""How every client of the fleet talks to the brokers: one set of time-outs, tuned together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypedDict

METADATA_MAX_AGE_MS = 4_000
"""A client that has asked a deposed leader believes what that says, and some of aiokafka's loops never ask again."""


class Timeouts(TypedDict, total=False):
    """The fields of `Connection` that may be set, to pass them on."""

    transaction_timeout_ms: int
    request_timeout_ms: int
    retry_backoff_ms: int
    metadata_max_age_ms: int
    start_timeout_s: float
    stall_timeout_s: float
    close_timeout_s: float


@dataclass(frozen=True)
class Connection:
    """The brokers and the time-outs towards them.

    The defaults belong together: with aiokafka's own, one hung broker stalls every partition for as long as a request
    may take, and retries without a pause flood the log in an outage.
    """

    brokers: str
    transaction_timeout_ms: int = 15_000
    request_timeout_ms: int = 4_000
    retry_backoff_ms: int = 50
    metadata_max_age_ms: int = METADATA_MAX_AGE_MS
    start_timeout_s: float = 30.0
    """Deadline of a producer's start: finding the coordinator and ending the older owner's transaction."""
    stall_timeout_s: float = 20.0
    """Deadline of a reader for its next progress."""
    close_timeout_s: float = 1.5

    @property
    def transaction_timeout_s(self) -> float:
        """Deadline of every step of a transaction: after it the coordinator aborts, and waiting on is useless."""
        return self.transaction_timeout_ms / 1000

    @property
    def client_options(self) -> dict[str, Any]:
        """What every aiokafka client is given."""
        return {
            "bootstrap_servers": [broker.strip() for broker in self.brokers.split(",")],
            "request_timeout_ms": self.request_timeout_ms,
            "retry_backoff_ms": self.retry_backoff_ms,
            "metadata_max_age_ms": self.metadata_max_age_ms,
        }


@asynccontextmanager
async def deadline(seconds: float, step: str) -> AsyncIterator[None]:
    """Bound what is awaited inside; the `TimeoutError` says which step it was."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise TimeoutError(f"{step} was not done within {seconds:g} s") from error
