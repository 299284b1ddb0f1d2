"""The fault proxy: it passes everything on, until it is told not to."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

import pytest
import pytest_asyncio

from app.local.ports import free_ports
from chaos.proxy import HOST, QUEUED_BYTES_MAX, Condition, FaultProxy, Route

ALL = frozenset({"echo"})
DEADLINE_S = 5.0
QUIET_S = 0.2
"""How long nothing must come before it counts as held back."""


class Client(NamedTuple):
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, data: bytes) -> bytes:
        self.writer.write(data)
        return await self.answer(len(data))

    async def answer(self, size: int) -> bytes:
        return await asyncio.wait_for(self.reader.readexactly(size), DEADLINE_S)


class Bed:
    """An echo server behind a proxy."""

    def __init__(self) -> None:
        self.port = free_ports(2)
        self.proxy = FaultProxy([Route("echo", self.port, self.port + 1)])
        self.heard = b""
        self._clients: list[Client] = []
        self._served: set[asyncio.Task[None] | None] = set()

    async def echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._served.add(asyncio.current_task())
        try:
            while data := await reader.read(1 << 16):
                self.heard += data
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection(HOST, self.port))
        self._clients.append(client)
        return client

    async def close(self) -> None:
        for client in self._clients:
            client.writer.close()
        await self.proxy.close()
        if served := {task for task in self._served if task is not None}:
            await asyncio.wait(served, timeout=DEADLINE_S)


@pytest_asyncio.fixture
async def bed() -> AsyncIterator[Bed]:
    made = Bed()
    server = await asyncio.start_server(made.echo, HOST, made.port + 1)
    await made.proxy.open()
    try:
        yield made
    finally:
        await made.close()
        server.close()
        await server.wait_closed()


async def test_it_passes_on_whatever_comes_and_both_closings(bed: Bed) -> None:
    client = await bed.connect()
    large = os.urandom(3 << 20)
    client.writer.write(large)
    assert await client.answer(len(large)) == large
    client.writer.write_eof()
    assert await asyncio.wait_for(client.reader.read(), DEADLINE_S) == b""
    assert bed.heard == large


async def test_a_cut_resets_what_is_open_and_refuses_what_is_new_until_it_is_lifted(bed: Bed) -> None:
    client = await bed.connect()
    assert await client.ask(b"a") == b"a"
    assert bed.proxy.impose("cut", Condition(ALL, cut=True)) == 1
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await client.ask(b"b")
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await (await bed.connect()).ask(b"c")
    bed.proxy.lift("cut")
    assert await (await bed.connect()).ask(b"d") == b"d"
    assert bed.heard == b"ad"


@pytest.mark.parametrize("up", [True, False])
async def test_half_open_holds_one_direction_and_delivers_when_it_is_lifted(bed: Bed, up: bool) -> None:
    client = await bed.connect()
    assert await client.ask(b"a") == b"a"
    bed.proxy.impose("half", Condition(ALL, hold_up=up, hold_down=not up))
    client.writer.write(b"b")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.reader.read(1), QUIET_S)
    assert bed.heard == (b"a" if up else b"ab")
    bed.proxy.lift("half")
    assert await client.answer(1) == b"b"


async def test_a_closing_is_not_told_through_a_half_open_connection(bed: Bed) -> None:
    client = await bed.connect()
    assert await client.ask(b"a") == b"a"
    bed.proxy.impose("half", Condition(ALL, hold_up=True))
    client.writer.write(b"last words")
    client.writer.write_eof()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.reader.read(1), QUIET_S)
    bed.proxy.lift("half")
    assert await asyncio.wait_for(client.reader.read(), DEADLINE_S) == b"last words"


async def test_latency_is_added_each_way_and_keeps_the_order(bed: Bed) -> None:
    client = await bed.connect()
    bed.proxy.impose("slow", Condition(ALL, delay_ms=60))
    started_s = time.monotonic()
    for number in range(5):
        client.writer.write(bytes([number]))
        await asyncio.sleep(0.005)
    assert await client.answer(5) == bytes(range(5))
    assert 0.12 <= time.monotonic() - started_s < 1.0
    bed.proxy.lift("slow")
    assert await client.ask(b"z") == b"z"


async def test_bandwidth_is_bounded(bed: Bed) -> None:
    client = await bed.connect()
    bed.proxy.impose("narrow", Condition(ALL, bytes_per_s=1 << 20))
    started_s = time.monotonic()
    assert len(await client.ask(bytes(1 << 18))) == 1 << 18
    assert time.monotonic() - started_s >= 0.25


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells whose a connection is")
async def test_a_condition_can_be_meant_for_one_process_alone(bed: Bed) -> None:
    client = await bed.connect()
    assert await client.ask(b"a") == b"a"
    assert bed.proxy.impose("another's", Condition(ALL, frozenset({1}), cut=True)) == 0
    assert await client.ask(b"b") == b"b"
    assert await (await bed.connect()).ask(b"c") == b"c"
    assert bed.proxy.impose("ours", Condition(ALL, frozenset({os.getpid()}), cut=True)) == 2
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await client.ask(b"d")
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await (await bed.connect()).ask(b"e")


async def test_where_nobody_listens_the_client_is_told(bed: Bed) -> None:
    port = free_ports(2)
    proxy = FaultProxy([Route("nobody", port, port + 1)])
    await proxy.open()
    reader, writer = await asyncio.open_connection(HOST, port)
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(reader.readexactly(1), DEADLINE_S)
    writer.close()
    await proxy.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - what is waited for is the network
            await asyncio.sleep(0)


def reset(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def test_nothing_is_left_of_a_connection_whose_client_has_gone_while_its_answer_was_held_back(bed: Bed) -> None:
    client = await bed.connect()
    assert await client.ask(b"a") == b"a"
    before = asyncio.all_tasks()
    bed.proxy.impose("half", Condition(ALL, hold_down=True))
    client.writer.write(b"b")
    await until(lambda: asyncio.all_tasks() != before)  # the answer waits
    reset(client.writer)
    await until(lambda: not asyncio.all_tasks() - before and not bed.proxy.open_connections)


async def test_a_server_that_is_gone_when_the_clients_last_word_comes_ends_the_connection() -> None:
    """Its reset is not noticed while the proxy does not read from it."""
    port = free_ports(2)
    proxy, accepted = FaultProxy([Route("echo", port, port + 1)]), asyncio.Queue[asyncio.StreamWriter]()
    server = await asyncio.start_server(lambda _, writer: accepted.put(writer), HOST, port + 1)
    await proxy.open()
    client = Client(*await asyncio.open_connection(HOST, port))
    serving = await asyncio.wait_for(accepted.get(), DEADLINE_S)
    proxy.impose("half", Condition(ALL, hold_down=True))
    serving.write(bytes(QUEUED_BYTES_MAX + (1 << 20)))
    await until(lambda: proxy.full)
    reset(serving)
    await until(lambda: serving.transport.get_write_buffer_size() == 0)
    client.writer.write_eof()
    await until(lambda: not proxy.open_connections)
    client.writer.close()
    await proxy.close()
    server.close()
