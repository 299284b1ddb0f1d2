"""A TCP proxy that misbehaves on demand: it cuts, delays, throttles, and leaves connections half open."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple, cast

import msgspec

from chaos.sockets import inodes_of_connections, sockets_of

HOST = "127.0.0.1"
QUEUED_BYTES_MAX = 1 << 20
"""Per direction; then the sender has to wait, as it would for a full window."""
CONNECT_TIMEOUT_S = 5.0


class Route(msgspec.Struct, frozen=True):
    """Whoever connects to `port` reaches `target`."""

    name: str
    port: int
    target: int


class Condition(msgspec.Struct, frozen=True):
    """What is wrong with the connections through `routes`, and, where `sources` are named, from those processes alone.

    `cut`: they are reset, and new ones are refused. `hold_up`, `hold_down`: what clients, or servers, send is held back
    until the condition is lifted, while both ends believe that they are connected. `delay_ms`, `bytes_per_s`: each way.
    """

    routes: frozenset[str]
    sources: frozenset[int] | None = None
    cut: bool = False
    hold_up: bool = False
    hold_down: bool = False
    delay_ms: int = 0
    bytes_per_s: int = 0


class _Chunk(NamedTuple):
    due: float
    data: bytes
    """Empty where the sender has `lost` its connection, or will merely send no more."""
    lost: bool = False


class _Direction(asyncio.Protocol):
    """Receives what one end sends, and passes it to the other end: at once, or as the conditions have it."""

    def __init__(self, link: _Link, *, up: bool) -> None:
        self._link, self._up = link, up
        self.sender: asyncio.Transport | None = None
        self.receiver: asyncio.Transport | None = None
        self._queue: deque[_Chunk] = deque()
        self._queued = 0
        self._draining: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self.ended = self._over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.sender = cast(asyncio.Transport, transport)
        self._link.connected(self)

    def data_received(self, data: bytes) -> None:
        if self._draining is None and not self._link.disturbed(up=self._up):
            self._write(data)
            return
        self._put(_Chunk(time.monotonic() + self._link.delay_s, data))

    def eof_received(self) -> bool:
        """Pass it on as it is: the other way stays open."""
        self._put(_Chunk(time.monotonic() + self._link.delay_s, b""))
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._put(_Chunk(time.monotonic() + self._link.delay_s, b"", lost=True))

    def pause_writing(self) -> None:
        """Our own end cannot take more: let the other end's reading wait."""
        self._link.other(self).hold_reading()

    def resume_writing(self) -> None:
        self._link.other(self).go_on_reading()

    def hold_reading(self) -> None:
        if self.sender is not None and not self.sender.is_closing():
            self.sender.pause_reading()

    def go_on_reading(self) -> None:
        if self.sender is not None and not self.sender.is_closing():
            self.sender.resume_reading()

    def look_again(self) -> None:
        """Conditions have changed."""
        self._news.set()

    @property
    def full(self) -> bool:
        return self._queued > QUEUED_BYTES_MAX

    def end(self) -> None:
        """Pass nothing on any more, also not what is held back."""
        self._over = True
        if self._draining is not None and self._draining is not asyncio.current_task():
            self._draining.cancel()
        self._queue.clear()

    def _put(self, chunk: _Chunk) -> None:
        if self._over:
            return
        self._queue.append(chunk)
        self._queued += len(chunk.data)
        if self.full:
            self.hold_reading()
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        while self._queue:
            chunk = self._queue[0]
            while self._link.held(up=self._up):
                self._news.clear()
                await self._news.wait()
            await asyncio.sleep(max(0.0, chunk.due - time.monotonic()))
            if rate := self._link.bytes_per_s:
                await asyncio.sleep(len(chunk.data) / rate)
            self._queue.popleft()
            self._queued -= len(chunk.data)
            if chunk.data:
                self._write(chunk.data)
            else:
                self._end_of_data(chunk)
            if self._queued <= QUEUED_BYTES_MAX // 2:
                self.go_on_reading()
        self._draining = None

    def _write(self, data: bytes) -> None:
        if self.receiver is not None and not self.receiver.is_closing():
            self.receiver.write(data)

    def _end_of_data(self, chunk: _Chunk) -> None:
        self.ended = True
        if chunk.lost or self._link.other(self).ended:
            self._link.close()
        elif self.receiver is not None and not self.receiver.is_closing():
            try:
                self.receiver.write_eof()
            except OSError:  # it was reset, unnoticed, since nothing is read from it now
                self._link.close()


class _Link:
    """One connection: the client's end, the server's end, and what is wrong with it."""

    def __init__(self, route: Route, proxy: FaultProxy) -> None:
        self.route = route
        self._proxy = proxy
        self.up, self.down = _Direction(self, up=True), _Direction(self, up=False)
        self.client_port = 0
        self.conditions: dict[str, Condition] = {}
        self._connecting: asyncio.Task[None] | None = None

    @property
    def delay_s(self) -> float:
        return sum(one.delay_ms for one in self.conditions.values()) / 1000

    @property
    def bytes_per_s(self) -> int:
        return min((one.bytes_per_s for one in self.conditions.values() if one.bytes_per_s), default=0)

    def held(self, *, up: bool) -> bool:
        return any(one.hold_up if up else one.hold_down for one in self.conditions.values())

    def disturbed(self, *, up: bool) -> bool:
        return bool(self.conditions) and (self.held(up=up) or bool(self.delay_s) or bool(self.bytes_per_s))

    def other(self, direction: _Direction) -> _Direction:
        return self.down if direction is self.up else self.up

    def connected(self, direction: _Direction) -> None:
        if direction is self.down:
            return
        direction.hold_reading()  # until there is somebody to pass it to
        assert direction.sender is not None
        self.client_port = direction.sender.get_extra_info("peername")[1]
        self._proxy.opened(self)
        if any(one.cut for one in self.conditions.values()):
            self.abort()
            return
        self._connecting = asyncio.create_task(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await loop.create_connection(lambda: self.down, HOST, self.route.target)
        except OSError:
            self.abort()
            return
        self.up.receiver, self.down.receiver = self.down.sender, self.up.sender
        self.up.go_on_reading()

    def close(self) -> None:
        """Both ends have sent all that they will, or one of them is gone."""
        for one in (self.up, self.down):
            one.end()
            if one.sender is not None:
                one.sender.close()
        self._proxy.forgotten(self)

    def look_again(self) -> None:
        if any(one.cut for one in self.conditions.values()):
            self.abort()
        self.up.look_again()
        self.down.look_again()

    def abort(self) -> None:
        """Reset both ends."""
        if self._connecting is not None:
            self._connecting.cancel()
        for one in (self.up, self.down):
            one.end()
            if one.sender is not None:
                one.sender.abort()
        self._proxy.forgotten(self)


class FaultProxy:
    """Routes on the loopback and the conditions imposed on them. Everything happens in the event loop of `open`."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = list(routes)
        self._servers: list[asyncio.Server] = []
        self._links: set[_Link] = set()
        self._conditions: dict[str, Condition] = {}

    async def open(self) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()
        for route in self._routes:
            server = await loop.create_server(lambda route=route: _Link(route, self).up, HOST, route.port)  # type: ignore[misc]
            self._servers.append(server)

    async def close(self) -> None:
        """Let go of everything."""
        for server in self._servers:
            server.close()
        for link in list(self._links):
            link.abort()
        for server in self._servers:
            await server.wait_closed()

    @property
    def open_connections(self) -> int:
        """Those that one of both ends still believes in."""
        return len(self._links)

    @property
    def full(self) -> bool:
        """Whether one of them holds back all that it may, so that its sender has to wait."""
        return any(one.full for link in self._links for one in (link.up, link.down))

    def impose(self, name: str, condition: Condition) -> int:
        """From now on the condition holds, for open connections and new ones; how many open ones it meets."""
        self._conditions[name] = condition
        met = self._met(condition)
        for link in met:
            link.conditions[name] = condition
            link.look_again()
        return len(met)

    def lift(self, name: str) -> None:
        """Things are as they should be again."""
        self._conditions.pop(name, None)
        for link in list(self._links):
            if link.conditions.pop(name, None) is not None:
                link.look_again()

    def opened(self, link: _Link) -> None:
        """A client has connected."""
        self._links.add(link)
        for name, condition in self._conditions.items():
            if link.route.name in condition.routes and _comes_from(link, condition.sources):
                link.conditions[name] = condition

    def forgotten(self, link: _Link) -> None:
        """Both ends are closed."""
        self._links.discard(link)

    def _met(self, condition: Condition) -> list[_Link]:
        there = [link for link in self._links if link.route.name in condition.routes]
        if condition.sources is None:
            return there
        held = set().union(*map(sockets_of, condition.sources))
        inodes = {port: inodes_of_connections(port) for port in {link.route.port for link in there}}
        return [link for link in there if inodes[link.route.port].get(link.client_port) in held]


def _comes_from(link: _Link, sources: frozenset[int] | None) -> bool:
    if sources is None:
        return True
    inode = inodes_of_connections(link.route.port).get(link.client_port)
    return inode is not None and any(inode in sockets_of(pid) for pid in sources)
