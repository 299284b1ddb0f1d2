"""Runs an audit: once, on a cut of the log, or for ever."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from app.audit.auditor import Audit, Auditor
from app.audit.reading import TopicReader

PATIENCE_S = 20.0
AGAIN_S = 0.5


class Auditing:
    """An auditor with the topics that it reads. What it has read it knows, also when brokers were away meanwhile."""

    def __init__(self, brokers: str, prefix: str = "", *, patience_s: float = PATIENCE_S) -> None:
        self._reader = TopicReader(brokers, prefix)
        self._auditor = Auditor()
        self._patience_s = patience_s

    async def once(self) -> Audit:
        """The verdict on everything that was in the topics when the audit began.

        The topics are no one moment's: while the fleet works, an outcome is read before its command, a row before its
        event. So what has begun by the end of the first pass is read on for until it is finished. What is not when
        patience is over never will be: a violation. What began later is in flight, and none.
        """
        async with self._reader:
            await self._pass()
            cut = time.monotonic()
            while not self._auditor.is_closed(cut) and time.monotonic() < cut + self._patience_s:
                await asyncio.sleep(AGAIN_S)
                await self._pass()
            return self._auditor.audit(cut)

    async def follow(self, every_s: float) -> AsyncIterator[Audit]:
        """A verdict after each pass, for ever. What has been open for longer than patience lasts is a violation."""
        async with self._reader:
            while True:
                await self._pass()
                yield self._auditor.audit(time.monotonic() - self._patience_s)
                await asyncio.sleep(every_s)

    async def _pass(self) -> None:
        """Everything up to the ends that the topics have now."""
        self._auditor.shared.horizons = self._reader.horizons
        async for records in self._reader.read():
            self._auditor.take(records)
            await asyncio.sleep(0)


async def audit_once(brokers: str, prefix: str = "", *, patience_s: float = PATIENCE_S) -> Audit:
    """See `Auditing.once`."""
    return await Auditing(brokers, prefix, patience_s=patience_s).once()
