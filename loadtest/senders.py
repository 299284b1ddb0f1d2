"""How commands get to the fleet: straight onto the commands topic, or over HTTP."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Any

import aiohttp
import msgspec
from aiokafka import AIOKafkaProducer

from app.domain.order import ORDER
from app.kernel import Envelope
from app.runtime.codec import Codec, utc_now
from app.runtime.topics import partition_of
from loadtest import connecting
from loadtest.customers import Step
from loadtest.outcomes import Waiting

TRIES = 30
RETRY_S = 0.2
HTTP_TIMEOUT_S = 15.0
FLUSH_TIMEOUT_S = 15.0
SOURCE = "/eventfleet/loadtest"

_json = msgspec.json.Encoder(decimal_format="string")


class KafkaSender:
    """Produces commands, as another service of the company would. Outcomes come by the outcomes topic."""

    def __init__(self, brokers: str, topic: str, partitions: int, waiting: Waiting) -> None:
        self._brokers, self._topic, self._partitions, self._waiting = brokers, topic, partitions, waiting
        self._codec = Codec.of_commands(ORDER)
        self._producer: Any = AIOKafkaProducer(bootstrap_servers=brokers, enable_idempotence=True, linger_ms=0)

    async def start(self) -> None:
        """Connect."""
        await connecting.start(self._producer, self._brokers)

    async def send(self, step: Step, intended: float) -> None:
        """Hand the command to the producer, which keeps the order of sending."""
        self._waiting.sent(step, intended)
        envelope = Envelope(step.command_id, step.order_id, utc_now(), step.command, step.expected_version)
        produced = await self._producer.send(
            self._topic,
            self._codec.encode(envelope, SOURCE),
            key=step.order_id.encode(),
            partition=partition_of(step.order_id, self._partitions),
        )
        produced.add_done_callback(lambda done: self._note(step, done))

    def _note(self, step: Step, produced: asyncio.Future[Any]) -> None:
        if not produced.cancelled() and (error := produced.exception()) is not None:
            self._waiting.mismatch(f"{step.command_id} could not be produced: {error!r}")

    async def finish(self) -> None:
        """Wait for what was sent."""
        async with asyncio.timeout(FLUSH_TIMEOUT_S):
            await self._producer.flush()

    async def stop(self) -> None:
        """Disconnect."""
        await connecting.stop(self._producer)


class HttpSender:
    """Posts commands to any of the workers; a 503 is tried again, with the same command id."""

    def __init__(self, urls: Sequence[str], waiting: Waiting) -> None:
        self._urls, self._waiting = list(urls), waiting
        self._session: aiohttp.ClientSession | None = None
        self._tails: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Open the connections."""
        timeout = aiohttp.ClientTimeout(total=HTTP_TIMEOUT_S)
        self._session = aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=512))

    async def send(self, step: Step, intended: float) -> None:
        """Begin to post, once the order's command before this one is answered."""
        self._waiting.sent(step, intended)
        before = self._tails.get(step.order_id)
        task = asyncio.create_task(self._after(before, step))
        self._tails[step.order_id] = task
        task.add_done_callback(lambda done: self._forget(step, done))

    def _forget(self, step: Step, done: asyncio.Task[None]) -> None:
        if self._tails.get(step.order_id) is done:
            del self._tails[step.order_id]
        if not done.cancelled() and done.exception() is not None:
            self._waiting.lost(step.command_id, f"{step.command_id}: {done.exception()!r}")

    async def _after(self, before: asyncio.Task[None] | None, step: Step) -> None:
        if before is not None:
            await asyncio.wait([before])
        for _ in range(TRIES):
            if await self._post(step):
                return
            await asyncio.sleep(RETRY_S)
        self._waiting.lost(step.command_id, f"{step.command_id}: no worker answered it in {TRIES} tries")

    async def _post(self, step: Step) -> bool:
        if self._session is None:
            raise RuntimeError("start the sender first")
        url = f"{random.choice(self._urls)}/commands/{type(step.command).__name__}"
        if step.expected_version is not None:
            url += f"?expected_version={step.expected_version}"
        headers = {"Idempotency-Key": step.command_id, "Content-Type": "application/json"}
        try:
            async with self._session.post(url, data=_json.encode(step.command), headers=headers) as answer:
                raw = await answer.read()
                if answer.status in (202, 503):
                    return False
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False
        body = _told(raw)
        reason = body.get("reason", f"status {answer.status}") if answer.status >= 400 else None
        if step.repeat:
            self._waiting.repeated(step, reason, body.get("version", -1))
        else:
            self._waiting.answered(step.command_id, reason, body.get("version", -1))
        return True

    async def finish(self) -> None:
        """Wait for what is under way."""
        if self._tails:
            await asyncio.wait(list(self._tails.values()), timeout=HTTP_TIMEOUT_S)

    async def stop(self) -> None:
        """Drop what is under way, and disconnect."""
        under_way = list(self._tails.values())
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        if self._session is not None:
            await self._session.close()


def _told(raw: bytes) -> dict[str, Any]:
    """What an answer says; nothing, where it is no JSON object."""
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}


def now() -> float:
    """The clock of all latencies, in seconds."""
    return time.perf_counter()
