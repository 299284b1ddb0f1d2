"""A flood of commands over HTTP, from as little Python as can be: raw connections and prepared bytes."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

CONNECTIONS_MAX = 2_000
TIMEOUT_S = 15.0
"""More than a worker takes for its slowest answer, a 202: whoever waits longer was not answered."""


@dataclass
class Flood:
    """What came of it. Latencies are in seconds, by status; status 0 stands for no answer."""

    offered: int = 0
    crowded_out: int = 0
    """Not sent: all connections were busy. A server that answers slowly is asked less by any client."""
    latencies_s: dict[int, list[float]] = field(default_factory=dict)
    without_retry_after: int = 0
    seconds: float = 0.0

    def note(self, status: int, seconds: float) -> None:
        """Count an answer."""
        self.latencies_s.setdefault(status, []).append(seconds)

    @property
    def statuses(self) -> Counter[int]:
        """How many answers there were of each status."""
        return Counter({status: len(found) for status, found in self.latencies_s.items()})

    def percentile_ms(self, status: int, share: float) -> float | None:
        """A percentile of the latencies of one status."""
        found = sorted(self.latencies_s.get(status, ()))
        return round(found[min(len(found) - 1, int(len(found) * share))] * 1000, 1) if found else None


class _Connection(asyncio.Protocol):
    """One keep-alive connection: a request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[tuple[int, bool]] | None = None
        self._got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    @property
    def is_open(self) -> bool:
        """Whether it can be asked."""
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, request: bytes) -> tuple[int, bool]:
        """The status, and whether the answer says when to try again; status 0 where no answer came."""
        self._answer, self._got = asyncio.get_running_loop().create_future(), b""
        if self._transport is None or not self.is_open:
            return 0, False
        self._transport.write(request)
        try:
            return await asyncio.wait_for(self._answer, TIMEOUT_S)
        except TimeoutError:
            self.close()
            return 0, False

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, found, body = self._got.partition(b"\r\n\r\n")
        if not found:
            return
        lower = head.lower()
        length = int(lower.partition(b"content-length:")[2].split(b"\r\n", 1)[0] or 0)
        if len(body) >= length:
            self._end((int(head[9:12]), b"retry-after:" in lower))

    def connection_lost(self, exc: Exception | None) -> None:
        self._end((0, False))

    def _end(self, answer: tuple[int, bool]) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)

    def close(self) -> None:
        """Let it go."""
        if self._transport is not None:
            self._transport.abort()


def requests(run: str, hosts: Sequence[str]) -> Iterator[tuple[int, bytes]]:
    """Which host to ask next, and what: a new order each time."""
    for number in itertools.count():
        id_ = f"{run}-{number}"
        body = (
            f'{{"order_id":"{id_}","customer_id":"c","customer_name":"Ann","customer_email":"a@example.org",'
            '"items":[{"product_id":"p","quantity":1,"price":"1.00"}]}'
        ).encode()
        host = number % len(hosts)
        head = (
            f"POST /commands/CreateOrder HTTP/1.1\r\nHost: {hosts[host]}\r\nIdempotency-Key: {id_}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        yield host, head.encode() + body


class Client:
    """Connections to every worker."""

    def __init__(self, hosts: Sequence[str], run: str) -> None:
        self._hosts = hosts
        self._requests = requests(run, hosts)
        self._idle: list[list[_Connection]] = [[] for _ in hosts]
        self._busy = 0

    async def closed(self, clients: int, seconds: float) -> Flood:
        """Each client asks when it was answered: what the fleet can do."""
        flood, began = Flood(), time.monotonic()

        async def ask_on() -> None:
            while time.monotonic() - began < seconds:
                await self._ask(flood)

        await asyncio.gather(*(ask_on() for _ in range(clients)))
        return self._ended(flood, time.monotonic() - began)

    async def opened(self, rate: float, seconds: float) -> Flood:
        """`rate` requests a second, whatever comes back."""
        flood, began = Flood(), time.monotonic()
        tasks: set[asyncio.Task[None]] = set()
        while (now := time.monotonic() - began) < seconds:
            for _ in range(int(now * rate) - flood.offered - flood.crowded_out):
                if self._busy >= CONNECTIONS_MAX:
                    flood.crowded_out += 1
                    continue
                task = asyncio.create_task(self._ask(flood))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.sleep(0.001)
        elapsed = time.monotonic() - began
        await asyncio.gather(*tasks)
        return self._ended(flood, elapsed)

    async def _ask(self, flood: Flood) -> None:
        host, request = next(self._requests)
        flood.offered += 1
        self._busy += 1
        began = time.monotonic()
        connection = None
        try:
            connection = await self._connection(host)
            status, retry_after = await connection.ask(request)
        except OSError:
            status, retry_after = 0, False
        finally:
            self._busy -= 1
        flood.note(status, time.monotonic() - began)
        flood.without_retry_after += status == 503 and not retry_after
        if connection is not None and connection.is_open:
            self._idle[host].append(connection)

    async def _connection(self, host: int) -> _Connection:
        while self._idle[host]:
            if (idle := self._idle[host].pop()).is_open:
                return idle
        address, port = self._hosts[host].split(":")
        _, made = await asyncio.get_running_loop().create_connection(_Connection, address, int(port))
        return made

    def _ended(self, flood: Flood, seconds: float) -> Flood:
        flood.seconds = seconds
        for idle in self._idle:
            for connection in idle:
                connection.close()
            idle.clear()
        return flood
