"""The bus within one process: for tests, and for a fleet of a single worker."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterable, Sequence

from app.buses.contract import (
    PARALLEL_MAX,
    STOP_TIMEOUT_S,
    WAITING_MAX,
    BusStats,
    Handler,
    Report,
    Subscriptions,
    report_to_log,
)
from app.buses.delivery import Delivery
from app.buses.event import BusEvent, in_sequence


class MemoryBus:
    """See the contract. With `sequential=True` a subscription handles one event at a time, in order of publication."""

    def __init__(
        self, *, sequential: bool = False, waiting_max: int = WAITING_MAX, report: Report = report_to_log
    ) -> None:
        self.stats = BusStats()
        self._parallel_max = 1 if sequential else PARALLEL_MAX
        self._waiting_max = waiting_max
        self._report = report
        self._subscriptions = Subscriptions()
        self._alone: list[Delivery] = []
        self._groups: dict[str, list[Delivery]] = {}
        self._listening = False

    @property
    def listening(self) -> bool:
        """Whether it runs."""
        return self._listening

    def subscribe(self, handler: Handler, types: Iterable[str] = (), *, group: str | None = None) -> None:
        """See the contract."""
        self._subscriptions.add(handler, types, group)

    async def publish(self, *events: BusEvent) -> None:
        """See the contract."""
        self._subscriptions.check_started()
        for event in events:
            self.stats.published += 1
            for delivery in self._alone:
                _offer(delivery, event)
            for members in self._groups.values():
                _offer(members[zlib.crc32(event.ordered_by.encode()) % len(members)], event)

    async def publish_in_sequence(self, events: Sequence[BusEvent], key: str | None = None) -> None:
        """See the contract."""
        await self.publish(*in_sequence(events, key))

    async def start(self) -> None:
        """See the contract."""
        for subscription in self._subscriptions.begin():
            delivery = Delivery(
                subscription,
                self.stats,
                self._report,
                parallel_max=self._parallel_max,
                waiting_max=self._waiting_max,
            )
            if subscription.group is None:
                self._alone.append(delivery)
            else:
                self._groups.setdefault(subscription.group, []).append(delivery)
        self._listening = True

    async def stop(self) -> None:
        """See the contract."""
        self._listening = False
        if self._subscriptions.end():
            everyone = [*self._alone, *(one for members in self._groups.values() for one in members)]
            await asyncio.gather(*(delivery.close(STOP_TIMEOUT_S) for delivery in everyone))


def _offer(delivery: Delivery, event: BusEvent) -> None:
    if delivery.subscription.wants(event):
        delivery.offer(event)
