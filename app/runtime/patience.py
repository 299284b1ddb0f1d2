"""How long to wait before something is tried again, and how to give it up when nobody wants it any more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from aiokafka.errors import KafkaError

from app.kernel.errors import RetryablePipelineError

EXPECTED = (KafkaError, OSError, TimeoutError, RetryablePipelineError)
"""What brokers, networks and disks do: it is waited out, and told without a stack trace."""

FIRST_S = 0.1
_DOUBLINGS_MAX = 20


def tell_trouble(log: logging.Logger, error: BaseException, text: str, *args: object) -> None:
    """Warn of what was expected; tell of everything else with where it came from."""
    if isinstance(error, EXPECTED):
        log.warning(f"{text}: %r", *args, error)
    else:
        log.error(text, *args, exc_info=error)


def pause_s(failures: int, most_s: float) -> float:
    """The pause after so many failures in a row, from 1 on: each twice the one before."""
    return min(FIRST_S * 2.0 ** min(failures - 1, _DOUBLINGS_MAX), most_s)


async def unless(ended: asyncio.Event, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run the work, but give it up at once when `ended` is set meanwhile. Raises what the work has raised."""
    task = asyncio.create_task(work())
    waiting = asyncio.create_task(ended.wait())
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
    finally:
        for pending in (task, waiting):
            pending.cancel()
        await asyncio.gather(task, waiting, return_exceptions=True)
