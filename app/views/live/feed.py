"""`GET /live`: notifications as server-sent events, for browsers and programs.

Each is one message, `{"id", "type", "stream_id", "version", "time"}`: ask the views for more. `?types=` names those
that are wanted, separated by commas. With `?pace_ms=` messages are gathered: at most one in that time, an event
`changes` that says how many notifications there were.

**Coming back.** Every message has an id. A client that comes back with `Last-Event-ID` to the same worker gets what it
missed, as far as the last `KEPT` messages reach; else it gets an event `restart` first: it has missed something, and
asks the views again.

**Limits.** `FLEET_LIVE_CLIENTS_MAX` clients a worker, then 503. One that lets `WAITING_MAX` messages pile up, or takes
nothing for `WRITE_TIMEOUT_S`, is dropped; browsers come back by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
from aiohttp import ClientConnectionError, web
from pydantic import Field

from app.buses.event import BusEvent
from app.views.operations import Answer, Operation, serve
from app.views.parameters import Parameters, parse
from app.views.problems import Problem

KEPT = 500
WAITING_MAX = 2 * KEPT
HEARTBEAT_S = 15.0
LOOK_EVERY_S = 1.0
WRITE_TIMEOUT_S = 10.0
RETRY_MS = 2_000
BUFFER_BYTES = 64 << 10

HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # a proxy that gathers would take the life out of it
    "X-Content-Type-Options": "nosniff",
}


class Wanted(Parameters):
    """What a client wants to hear."""

    types: str = Field(default="", max_length=1_024)
    pace_ms: int = Field(default=0, ge=0, le=60_000)


class Message(NamedTuple):
    """One notification, numbered."""

    number: int
    type: str
    body: bytes


class _Told(msgspec.Struct):
    id: str
    type: str
    stream_id: str
    version: int | None
    time: object


@dataclass
class FeedStats:
    """What the feed counts."""

    clients: int = 0
    refused: int = 0
    slow_dropped: int = 0


@dataclass(eq=False)
class _Client:
    types: frozenset[str]
    transport: asyncio.Transport | None
    waiting: deque[Message] = field(default_factory=deque)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    lost: bool = False

    def offer(self, message: Message) -> None:
        if self.types and message.type not in self.types:
            return
        if len(self.waiting) >= WAITING_MAX:
            self.drop()
        else:
            self.waiting.append(message)
        self.news.set()

    @property
    def gone(self) -> bool:
        """Whether it has closed the connection: nobody tells, and its place is needed."""
        return self.transport is None or self.transport.is_closing()

    def drop(self) -> None:
        """It is too slow: end the connection at once, whatever waits in it."""
        self.lost = True
        if self.transport is not None:
            self.transport.abort()


class Feed:
    """The worker's live feed. Hears the bus, and so every worker's changes, if the bus reaches them."""

    def __init__(self, clients_max: int) -> None:
        self.stats = FeedStats()
        self._clients_max = clients_max
        self._clients: set[_Client] = set()
        self._run = uuid.uuid4().hex[:12]
        self._number = 0
        self._kept: deque[Message] = deque(maxlen=KEPT)
        self._closing = asyncio.Event()

    def add_to(self, web_app: web.Application) -> None:
        """Add the route."""
        says = {200: Answer("The stream.", {"type": "string"}, media="text/event-stream")}
        told = Operation("GET", "/live", "Notifications, as they come", says, tag="live", query=Wanted)
        serve(web_app, told, self.get)
        web_app.on_shutdown.append(self._close)

    async def hear(self, event: BusEvent) -> None:
        """A notification came over the bus."""
        self._number += 1
        body = _encode(_Told(event.id, event.type, event.stream_id, event.version, event.time))
        message = Message(self._number, event.type, body)
        self._kept.append(message)
        for client in self._clients:
            client.offer(message)

    async def get(self, request: web.Request) -> web.StreamResponse:
        """The stream, until the client goes, is too slow, or the worker stops."""
        wanted = parse(request, Wanted)
        if len(self._clients) >= self._clients_max or self._closing.is_set():
            self.stats.refused += 1
            raise Problem(
                503, "too_many_clients", f"This worker serves {self._clients_max} live clients", retry_after_s=1
            )
        client = _Client(frozenset(filter(None, wanted.types.split(","))), request.transport)
        last = request.headers.get("Last-Event-ID")
        missed = self._missed(last, client) if last else None
        self._clients.add(client)
        self.stats.clients = len(self._clients)
        try:
            return await self._serve(request, client, wanted, restart=last is not None and not missed)
        finally:
            self.stats.slow_dropped += client.lost
            self._clients.discard(client)
            self.stats.clients = len(self._clients)

    def _missed(self, last: str, client: _Client) -> bool:
        """Whether all that was missed is known here; then it waits for the client."""
        run, _, number = last.partition("-")
        if run != self._run or not number.isdecimal() or int(number) > self._number:
            return False
        oldest = self._kept[0].number if self._kept else self._number + 1
        if int(number) + 1 < oldest:
            return False
        for message in self._kept:
            if message.number > int(number):
                client.offer(message)
        return not client.lost

    async def _serve(
        self, request: web.Request, client: _Client, wanted: Wanted, *, restart: bool
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers=HEADERS)
        if client.transport is not None:
            client.transport.set_write_buffer_limits(BUFFER_BYTES)
        hello = f"retry: {RETRY_MS}\n: hello\n\n" + ("event: restart\ndata: {}\n\n" if restart else "")
        try:
            await response.prepare(request)
            await _write(response, hello.encode())
            while not (client.lost or self._closing.is_set()):
                if (data := await self._next(client, paced=wanted.pace_ms > 0)) is None:
                    break
                await _write(response, data)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._closing.wait(), wanted.pace_ms / 1000)
        except TimeoutError:
            client.drop()
        except (ConnectionError, ClientConnectionError):
            pass  # it went, or was dropped
        return response

    async def _next(self, client: _Client, *, paced: bool) -> bytes | None:
        """What to write next; `None` where the client has gone."""
        beat_s = time.monotonic() + HEARTBEAT_S
        while not client.news.is_set():
            if client.gone:
                return None
            if (left_s := beat_s - time.monotonic()) <= 0:
                return b": heartbeat\n\n"
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(client.news.wait(), min(left_s, LOOK_EVERY_S))
        client.news.clear()
        news = list(client.waiting)
        client.waiting.clear()
        if not news:
            return b": closing\n\n"
        if paced:
            return b'id: %b-%d\nevent: changes\ndata: {"count":%d}\n\n' % (
                self._run.encode(),
                news[-1].number,
                len(news),
            )
        return b"".join(b"id: %b-%d\ndata: %b\n\n" % (self._run.encode(), m.number, m.body) for m in news)

    async def _close(self, _: web.Application) -> None:
        """The worker stops: end every stream, or the web server would wait for them."""
        self._closing.set()
        for client in self._clients:
            client.news.set()


async def _write(response: web.StreamResponse, data: bytes) -> None:
    async with asyncio.timeout(WRITE_TIMEOUT_S):
        await response.write(data)


_encode = msgspec.json.Encoder().encode
