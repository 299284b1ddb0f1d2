"""Probes: again and again an order is created over HTTP in every partition, and looked for in the view."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from app.runtime.topics import partition_of

EVERY_S = 0.5
AT_ONCE_MAX = 24
TRY_TIMEOUT_S = 3.0
RETRY_S, RETRY_S_MAX = 0.1, 1.0
"""Who waits for long asks less often: in an outage, a hundred probes took the processor from what was to come back."""
ITEM = {"product_id": "probe", "quantity": 1, "price": "1.00"}


@dataclass
class Probe:
    """One order: when it was first sent, and when it was created and visible."""

    partition: int
    sent_s: float
    seen_s: float | None = None
    created_s: float | None = None


class Probes:
    """Sends a probe to each partition every half second, whatever has become of those before.

    As any client would, it asks another worker when one does not answer, with the same idempotency key.
    """

    def __init__(self, run: str, urls: Sequence[str], partitions: int, now: Callable[[], float]) -> None:
        self.all: list[Probe] = []
        self.violations: list[str] = []
        self._run, self._urls, self._partitions, self._now = run, list(urls), partitions, now
        self._ids = [_ids_of(run, number, partitions) for number in range(partitions)]
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until cancelled."""
        timeout = aiohttp.ClientTimeout(total=TRY_TIMEOUT_S, connect=1.0)
        try:
            async with aiohttp.ClientSession(timeout=timeout) as session:
                try:
                    for turn in itertools.count():
                        for number in range(self._partitions):
                            self._begin(session, number)
                        await asyncio.sleep(EVERY_S - self._now() % EVERY_S if turn else EVERY_S)
                finally:
                    for task in self._tasks:
                        task.cancel()
                    await asyncio.gather(*self._tasks, return_exceptions=True)
        except asyncio.CancelledError:
            return

    def _begin(self, session: aiohttp.ClientSession, number: int) -> None:
        under_way = sum(probe.seen_s is None for probe in self.all if probe.partition == number)
        if under_way < AT_ONCE_MAX:
            probe = Probe(number, self._now())
            self.all.append(probe)
            task = asyncio.create_task(self._probe(session, probe, next(self._ids[number])))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _probe(self, session: aiohttp.ClientSession, probe: Probe, order_id: str) -> None:
        urls = itertools.cycle(self._urls[len(self.all) % len(self._urls) :] + self._urls)
        while not await self._create(session, next(urls), order_id):  # noqa: ASYNC110 - other processes are asked
            await asyncio.sleep(self._pause_s(probe))
        probe.created_s = self._now()
        while not await _visible(session, next(urls), order_id):  # noqa: ASYNC110
            await asyncio.sleep(self._pause_s(probe))
        probe.seen_s = self._now()

    def _pause_s(self, probe: Probe) -> float:
        return min(max(RETRY_S, (self._now() - probe.sent_s) / 10), RETRY_S_MAX)

    async def _create(self, session: aiohttp.ClientSession, url: str, order_id: str) -> bool:
        body: dict[str, Any] = {
            "order_id": order_id,
            "customer_id": "probe",
            "customer_name": "Probe",
            "customer_email": "probe@example.org",
            "items": [ITEM],
        }
        headers = {"Idempotency-Key": f"{order_id}:0"}
        try:
            async with session.post(f"{url}/commands/CreateOrder", json=body, headers=headers) as answer:
                if answer.status not in (200, 201, 202, 503):
                    text = (await answer.text())[:200]
                    self.violations.append(f"{order_id} was answered {answer.status} by {url}: {text}")
                return answer.status not in (202, 503)
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    def waiting(self) -> str:
        """The oldest probe of each partition that has no answer, for people."""
        oldest = {probe.partition: probe for probe in reversed(self.all) if probe.seen_s is None}
        told = [
            f"partition {number}, {'visible' if probe.created_s else 'created'} never, since {probe.sent_s:.0f} s"
            for number, probe in sorted(oldest.items())
        ]
        return "; ".join(told) or "none"

    def recovered_s(self, since_s: float) -> float | None:
        """The first moment at which every partition has answered a probe that was sent after `since_s`."""
        first: list[float] = []
        for number in range(self._partitions):
            seen = [
                p.seen_s for p in self.all if p.partition == number and p.sent_s >= since_s and p.seen_s is not None
            ]
            if not seen:
                return None
            first.append(min(seen))
        return max(first)

    def worst_s(self, from_s: float, to_s: float) -> float:
        """How long the slowest probe took that was sent in this time, until now where it is not answered yet."""
        took = [(p.seen_s or self._now()) - p.sent_s for p in self.all if from_s <= p.sent_s <= to_s]
        return max(took, default=0.0)


async def _visible(session: aiohttp.ClientSession, url: str, order_id: str) -> bool:
    try:
        async with session.get(f"{url}/orders/{order_id}", params={"min_version": "1"}) as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False


def _ids_of(run: str, number: int, partitions: int) -> Any:
    """Order ids that lie in one partition."""
    ids = (f"{run}-probe-{count:06d}" for count in itertools.count(number * 100_000))
    return (order_id for order_id in ids if partition_of(order_id, partitions) == number)
