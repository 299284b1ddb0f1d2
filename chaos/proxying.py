"""The fault proxy in a process of its own, so that neither its load nor its faults disturb whoever measures."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence

import msgspec

from app.local.errors import LocalFleetError
from chaos.proxy import Condition, FaultProxy, Route

ANSWER_TIMEOUT_S = 10.0
LINE_BYTES_MAX = 1 << 20


class Wish(msgspec.Struct, frozen=True):
    """One line to the process. `guard`: a process that is to be woken up again should we all end before our time."""

    name: str = ""
    impose: Condition | None = None
    guard: int = 0


class ProxyProcess:
    """Starts the process, and tells it what to do."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = list(routes)
        self._process: asyncio.subprocess.Process | None = None
        self._asking = asyncio.Lock()

    async def start(self) -> None:
        """Return when it listens."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "chaos.proxying",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        await self._tell(msgspec.json.encode(self._routes))

    async def impose(self, name: str, condition: Condition) -> None:
        """See `FaultProxy.impose`."""
        await self._tell(msgspec.json.encode(Wish(name, condition)))

    async def lift(self, name: str) -> None:
        """See `FaultProxy.lift`."""
        await self._tell(msgspec.json.encode(Wish(name)))

    async def guard(self, pid: int) -> None:
        """See `Wish`."""
        await self._tell(msgspec.json.encode(Wish(guard=pid)))

    async def close(self) -> None:
        """End it: it ends by itself when nobody speaks to it any more."""
        process, self._process = self._process, None
        if process is None or process.stdin is None:
            return
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), ANSWER_TIMEOUT_S)
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _tell(self, line: bytes) -> None:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise LocalFleetError("the fault proxy is not started")
        async with self._asking, asyncio.timeout(ANSWER_TIMEOUT_S):
            process.stdin.write(line + b"\n")
            if await process.stdout.readline() != b"ok\n":
                raise LocalFleetError("the fault proxy has ended: are its ports taken?")


async def serve() -> None:
    """Do what the lines on the standard input say, until it ends."""
    reader = asyncio.StreamReader(LINE_BYTES_MAX)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    proxy = FaultProxy(msgspec.json.decode(await reader.readline(), type=list[Route]))
    await proxy.open()
    guarded: set[int] = set()
    try:
        print("ok", flush=True)
        while line := await reader.readline():
            wish = msgspec.json.decode(line, type=Wish)
            if wish.guard:
                guarded.add(wish.guard)
            elif wish.impose is not None:
                proxy.impose(wish.name, wish.impose)
            else:
                proxy.lift(wish.name)
            print("ok", flush=True)
    finally:
        await proxy.close()
        for pid in guarded:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


if __name__ == "__main__":
    asyncio.run(serve())
