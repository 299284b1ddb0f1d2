"""Repeated commands sent over Kafka: they get no record of their own, so what a client would be told is asked for."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterable, Sequence
from urllib.parse import quote

import aiohttp

from loadtest.customers import Step
from loadtest.outcomes import Waiting

ASKED_MAX = 500
TRY_S = 0.1
TIMEOUT_S = 15.0


async def ask_for_repeats(urls: Sequence[str], steps: Iterable[Step], waiting: Waiting) -> None:
    """Ask `GET /commands/{id}` for the repeated ones among the steps, the first `ASKED_MAX` of them."""
    repeats = list(itertools.islice((step for step in steps if step.repeat), ASKED_MAX))
    places = itertools.cycle(urls)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session:
        deadline = time.monotonic() + TIMEOUT_S
        for step in repeats:
            while not await _told(session, next(places), step, waiting):
                if time.monotonic() > deadline:
                    waiting.mismatch(f"{step.command_id}: no worker could tell the outcome of a repeated command")
                    return
                await asyncio.sleep(TRY_S)


async def _told(session: aiohttp.ClientSession, url: str, step: Step, waiting: Waiting) -> bool:
    """Whether the worker knew. The outcome comes from its table, which is written a moment after the topic."""
    path = f"{url}/commands/{quote(step.command_id, safe='')}"
    try:
        async with session.get(path, params={"key": step.order_id}) as answer:
            if answer.status != 200:
                return False
            outcome = await answer.json()
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False
    rejected = outcome.get("rejected")
    waiting.repeated(step, rejected["reason"] if rejected else None, outcome["version"])
    return True
