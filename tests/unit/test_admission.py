"""What could not be answered in time is refused at once, and says when to try again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from app.runtime.flow import Flow
from app.runtime.ports import TopicPartition
from app.views.admission import ADMISSION, Admission, AdmissionCollector, limit_requests
from app.views.problems import Problem, problems

SOURCE = TopicPartition("orders.commands", 0)


class Served:
    """A web server with one slow route, whose answers wait until they are let go."""

    def __init__(self, requests_max: int) -> None:
        self.admission = Admission(requests_max, 5.0, Flow())
        self.let_go = asyncio.Event()
        self.inside = asyncio.Semaphore(0)
        self.url = ""

    async def slow(self, _: web.Request) -> web.Response:
        self.inside.release()
        await self.let_go.wait()
        return web.Response(text="done")

    async def probe(self, _: web.Request) -> web.Response:
        return web.Response(text="alive")


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    made = Served(2)
    app = web.Application(middlewares=[problems, limit_requests])
    app[ADMISSION] = made.admission
    app.router.add_get("/slow", made.slow)
    app.router.add_get("/healthz", made.probe)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server = site._server
    assert isinstance(server, asyncio.Server)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield made
    made.let_go.set()
    await runner.cleanup()


async def test_one_request_too_many_is_refused_at_once(served: Served) -> None:
    async with aiohttp.ClientSession() as session:
        under_way = [asyncio.create_task(session.get(f"{served.url}/slow")) for _ in range(2)]
        for _ in under_way:
            await served.inside.acquire()
        async with session.get(f"{served.url}/slow") as refused:
            assert refused.status == 503
            assert refused.headers["Retry-After"] == "1"
            assert (await refused.json())["type"] == "urn:eventfleet:problem:overloaded"
        async with session.get(f"{served.url}/healthz") as probe:
            assert probe.status == 200, "who watches must get through"
        served.let_go.set()
        for one in await asyncio.gather(*under_way):
            assert one.status == 200
            await one.read()
        async with session.get(f"{served.url}/slow") as again:
            assert again.status == 200
    assert served.admission.under_way == 0
    told = {sample.name: sample.value for m in AdmissionCollector(served.admission).collect() for sample in m.samples}
    assert told["eventfleet_requests_refused_total"] == 1


def test_a_command_behind_too_long_a_backlog_is_not_sent() -> None:
    flow = Flow()
    admission = Admission(10, 5.0, flow)
    flow.note({SOURCE: 0}, {SOURCE: 0}, 0.0)
    flow.note({SOURCE: 1_000}, {SOURCE: 4_000}, 1.0)
    admission.check_backlog(SOURCE)
    flow.note({SOURCE: 2_000}, {SOURCE: 12_000}, 2.0)
    with pytest.raises(Problem) as refused:
        admission.check_backlog(SOURCE)
    assert refused.value.status == 503
    assert refused.value.response().headers["Retry-After"] == "7"
    admission.check_backlog(TopicPartition("orders.commands", 1))
