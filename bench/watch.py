"""Watches a fleet as its customers do: one command after the other in every partition, and queries beside them."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from app.runtime.topics import partition_of

TIMEOUT_S = 8.0
RETRY_S = 0.02
PAUSE_S = 0.02


@dataclass
class Watch:
    """What was seen. Times are in seconds of the monotonic clock."""

    answered: dict[int, list[float]] = field(default_factory=dict)
    """By partition, when each command was answered: what was begun before was answered before."""
    queries: int = 0
    retried: int = 0
    failed: list[str] = field(default_factory=list)
    """Queries that were answered neither at once nor by another worker."""
    stale: int = 0
    seen: dict[int, str] = field(default_factory=dict)
    """By partition, an order that exists: what queries ask for."""

    def first_after(self, partition: int, moment: float) -> float | None:
        """When a command of the partition was answered for the first time after a moment."""
        return next((at for at in self.answered.get(partition, ()) if at > moment), None)

    def longest_stop(self, partition: int, begin: float, end: float) -> float:
        """The longest time between two answers that touches an interval."""
        times = self.answered.get(partition, [])
        gaps = [b - a for a, b in itertools.pairwise([*times, end]) if b > begin and a < end]
        return max(gaps, default=end - begin)


@asynccontextmanager
async def watching(urls: Sequence[str], partitions: int, run: str) -> AsyncIterator[Watch]:
    """Watch until the end of the context."""
    watch = Watch()
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        tasks = [
            asyncio.create_task(loop)
            for number in range(partitions)
            for loop in (
                _command(session, urls, watch, number, _ids(run, number, partitions)),
                _query(session, urls, watch, number),
            )
        ]
        try:
            yield watch
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _ids(run: str, partition: int, partitions: int) -> Iterator[str]:
    ids = (f"{run}-{partition}-{number}" for number in itertools.count())
    return (id_ for id_ in ids if partition_of(id_, partitions) == partition)


async def _command(
    session: aiohttp.ClientSession, urls: Sequence[str], watch: Watch, partition: int, ids: Iterator[str]
) -> None:
    turns = itertools.cycle(urls)
    for id_ in ids:
        body = {
            "order_id": id_,
            "customer_id": "c",
            "customer_name": "Ann",
            "customer_email": "a@example.org",
            "items": [{"product_id": "p", "quantity": 1, "price": "1.00"}],
        }
        while True:
            try:
                url = f"{next(turns)}/commands/CreateOrder"
                async with session.post(url, json=body, headers={"Idempotency-Key": id_}) as got:
                    await got.read()
                    if got.status in (200, 201):
                        break
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass
            await asyncio.sleep(RETRY_S)
        watch.answered.setdefault(partition, []).append(time.monotonic())
        watch.seen[partition] = id_
        await asyncio.sleep(PAUSE_S)


async def _query(session: aiohttp.ClientSession, urls: Sequence[str], watch: Watch, partition: int) -> None:
    turns = itertools.cycle(urls)
    while True:
        await asyncio.sleep(PAUSE_S)
        id_ = watch.seen.get(partition)
        if id_ is None:
            continue
        watch.queries += 1
        told = []
        for _ in range(2):
            told.append(await _ask(session, f"{next(turns)}/orders/{id_}", watch))
            if told[-1] is None:
                break
        watch.retried += len(told) - 1
        if told[-1] is not None:
            watch.failed.append(f"{time.monotonic():.2f} {id_}: {told}")


async def _ask(session: aiohttp.ClientSession, url: str, watch: Watch) -> str | None:
    """`None` where it was answered. A row that a standby does not have yet is an answer: it says that it is old."""
    try:
        async with session.get(url) as got:
            await got.read()
            watch.stale += "Eventfleet-Stale" in got.headers
            return None if got.status in (200, 404) else f"{url} {got.status}"
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return f"{url} {type(error).__name__}"
