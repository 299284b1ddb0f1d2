"""Runs an audit: once, on a cut of the log, or for ever."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from app.audit.auditor import Audit, Auditor
from app.audit.reading import TopicReader

PATIENCE_S = 20.0
AGAIN_S = 0.5


async def read_once(reader: TopicReader, auditor: Auditor) -> float:
    """One pass: everything up to the ends that the topics have now. When it began."""
    began = time.monotonic()
    auditor.shared.horizons = reader.horizons
    async for records in reader.read():
        auditor.take(records)
        await asyncio.sleep(0)
    return began


async def audit_once(brokers: str, prefix: str = "", *, patience_s: float = PATIENCE_S) -> Audit:
    """The verdict on everything that was in the topics when the audit began.

    The topics are no one moment's: while the fleet works, an outcome is read before its command, a row before its
    event. So what has begun by the end of the first pass is read on for until it is finished. What is not after
    `patience_s` never will be: a violation. What began later is in flight, and none.
    """
    auditor = Auditor()
    async with TopicReader(brokers, prefix) as reader:
        await read_once(reader, auditor)
        cut = time.monotonic()
        while not auditor.is_closed(cut) and time.monotonic() < cut + patience_s:
            await asyncio.sleep(AGAIN_S)
            await read_once(reader, auditor)
        return auditor.audit(cut)


async def audit_on(
    brokers: str, prefix: str = "", *, every_s: float = 5.0, patience_s: float = PATIENCE_S
) -> AsyncIterator[Audit]:
    """A verdict after each pass, for ever. What has been open for longer than `patience_s` is a violation."""
    auditor = Auditor()
    async with TopicReader(brokers, prefix) as reader:
        while True:
            await read_once(reader, auditor)
            yield auditor.audit(time.monotonic() - patience_s)
            await asyncio.sleep(every_s)
