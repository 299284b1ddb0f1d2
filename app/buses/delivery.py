"""Handing events to a subscription's handler: in order within a lane, lanes side by side, all of it bounded."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from app.buses.contract import (
    HANDLER_TIMEOUT_S,
    PARALLEL_MAX,
    WAITING_MAX,
    BusStats,
    Failure,
    Handler,
    Report,
    Subscription,
    tell,
)
from app.buses.event import BusEvent

log = logging.getLogger(__name__)

Admit = Callable[[BusEvent], Awaitable[bool]]


async def attempt(handler: Handler, event: BusEvent) -> Exception | None:
    """Run the handler once; what went wrong."""
    try:
        async with asyncio.timeout(HANDLER_TIMEOUT_S):
            await handler(event)
    except Exception as error:  # noqa: BLE001 - handlers are others' code: whatever they raise is reported
        return error
    return None


async def in_lanes(events: Sequence[BusEvent], handle: Handler, parallel_max: int = PARALLEL_MAX) -> None:
    """Handle a batch to its end: the events of a lane one after the other, `parallel_max` lanes at once."""
    lanes: dict[str, list[BusEvent]] = {}
    for event in events:
        lanes.setdefault(event.ordered_by, []).append(event)
    waiting = iter(lanes.values())

    async def run() -> None:
        for lane in waiting:
            for event in lane:
                await handle(event)

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(parallel_max, len(lanes))):
                tasks.create_task(run())
    except ExceptionGroup as group:
        raise group.exceptions[0] from group


class Delivery:
    """One subscription's waiting events and the tasks that hand them over, for buses that keep nothing themselves.

    A full buffer drops its oldest event: of notifications the newest say the most. `admit` is asked right before the
    handler is called, and may refuse the event: another member of the group has it. With `parallel_max` of 1 there is
    one lane: everything is handled one after the other, in the order of its coming. What has waited for longer than
    `age_s_max` is dropped.
    """

    def __init__(
        self,
        subscription: Subscription,
        stats: BusStats,
        report: Report,
        *,
        admit: Admit | None = None,
        parallel_max: int = PARALLEL_MAX,
        waiting_max: int = WAITING_MAX,
        age_s_max: float | None = None,
    ) -> None:
        self.subscription = subscription
        self._stats, self._report, self._admit = stats, report, admit
        self._parallel_max, self._waiting_max, self._age_s_max = parallel_max, waiting_max, age_s_max
        self._waiting: dict[int, tuple[float, BusEvent]] = {}  # since when; in the order of their coming
        self._lanes: dict[str, deque[int]] = {}  # those in which something waits or runs
        self._idle: deque[str] = deque()  # those of them that no task cares for yet
        self._tasks: set[asyncio.Task[None]] = set()
        self._count = 0
        self._closed = False

    @property
    def lanes(self) -> list[str]:
        """The lanes in which something waits or runs."""
        return list(self._lanes)

    def offer(self, event: BusEvent) -> None:
        """Take the event, and drop the oldest that waits where there is no room. Never waits."""
        if self._closed:
            self._stats.dropped += 1
            return
        if len(self._waiting) >= self._waiting_max:
            self._drop_oldest()
        lane = self._lane_of(event)
        self._count += 1
        self._waiting[self._count] = time.monotonic(), event
        if lane in self._lanes:
            self._lanes[lane].append(self._count)
        else:
            self._lanes[lane] = deque([self._count])
            self._idle.append(lane)
            self._care_for_lanes()

    async def close(self, timeout_s: float) -> None:
        """Let what runs come to its end, within the time; what waits is dropped."""
        self._closed = True
        self._stats.dropped += len(self._waiting)
        self._waiting.clear()
        for lane in self._lanes.values():
            lane.clear()
        self._idle.clear()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=timeout_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _lane_of(self, event: BusEvent) -> str:
        return event.ordered_by if self._parallel_max > 1 else ""

    def _drop_oldest(self) -> None:
        number = next(iter(self._waiting))
        lane = self._lane_of(self._waiting.pop(number)[1])
        self._lanes[lane].popleft()  # a lane's events wait in the order of their coming, so it is the first
        self._stats.dropped += 1

    def _care_for_lanes(self) -> None:
        while self._idle and len(self._tasks) < self._parallel_max:
            task = asyncio.create_task(self._run(self._idle.popleft()))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._care_for_lanes()

    async def _run(self, lane: str) -> None:
        numbers = self._lanes[lane]
        try:
            while numbers:
                try:
                    await self._handle(*self._waiting.pop(numbers.popleft()))
                except Exception:
                    self._stats.failed += 1
                    log.exception("%s: an event could not be handed over", self.subscription.name)
        finally:
            del self._lanes[lane]

    async def _handle(self, since: float, event: BusEvent) -> None:
        if self._age_s_max is not None and time.monotonic() - since > self._age_s_max:
            self._stats.dropped += 1
            return
        if self._admit is not None and not await self._admit(event):
            return
        error = await attempt(self.subscription.handler, event)
        if error is None:
            self._stats.handled += 1
        else:
            self._stats.failed += 1
            tell(self._report, Failure(self.subscription.name, event, error))
