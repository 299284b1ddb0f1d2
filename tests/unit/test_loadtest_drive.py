"""Driving, over HTTP, at a stand-in for a worker: the clock waits for nobody, and nothing is believed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.test_utils import TestServer

from app.runtime.settings import Settings
from loadtest.customers import Habits, Step, population
from loadtest.drive import Driven, Progress, drive
from loadtest.schedule import schedule

NO_MISTAKES = Habits(0, 0, 0, 0, 0, 0, 0, 0)
Answer = Callable[[web.Request, Step], Awaitable[web.Response]]


class StandIn:
    """Answers commands as the script expects, unless told otherwise."""

    def __init__(self, steps: list[Step]) -> None:
        self.steps = {step.command_id: step for step in steps}
        self.asked: list[str] = []
        self.answer: Answer = self.right

    async def right(self, request: web.Request, step: Step) -> web.Response:
        """What a fleet would answer."""
        if step.rejected is not None:
            return web.json_response({"reason": step.rejected, "version": step.version}, status=409)
        return web.json_response({"command_id": step.command_id, "version": step.version}, status=200)

    async def command(self, request: web.Request) -> web.Response:
        """`POST /commands/{type}`."""
        command_id = request.headers["Idempotency-Key"]
        self.asked.append(command_id)
        return await self.answer(request, self.steps[command_id])

    async def order(self, request: web.Request) -> web.Response:
        """`GET /orders/{id}`."""
        return web.json_response({})


@asynccontextmanager
async def serving(stand_in: StandIn) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/commands/{type}", stand_in.command)
    app.router.add_get("/orders/{id}", stand_in.order)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


async def driven(
    stand_in: StandIn, scripts: list[list[Step]], rate: float, progress: Callable[[Progress], None] = lambda _: None
) -> Driven:
    async with serving(stand_in) as url:
        return await drive(schedule(scripts, rate, think_s=0.01), Settings(), [url], "http", progress)


def standing_in(scripts: list[list[Step]]) -> StandIn:
    return StandIn([step for steps in scripts for step in steps if not step.repeat])


async def test_right_answers_are_counted_and_nothing_is_amiss() -> None:
    scripts = list(population("run", 60, 2))
    found = await driven(standing_in(scripts), scripts, 200)
    steps = [step for steps in scripts for step in steps]
    assert found.mismatches == []
    assert found.commands == len(steps)
    assert found.outcomes == sum(not step.repeat for step in steps)
    assert found.repeats == sum(step.repeat for step in steps) > 0
    assert sum(found.rejected.values()) == sum(step.rejected is not None and not step.repeat for step in steps) > 0
    assert len(found.outcome_latencies) == found.outcomes
    assert len(found.view_latencies) > 0


async def test_a_stall_counts_for_everyone_whom_it_held_up() -> None:
    """No answer before the last order was due: with a closed loop, only the first would have looked slow."""
    scripts = [steps[:1] for steps in population("run", 40, 2, NO_MISTAKES)]
    stand_in, all_asked = standing_in(scripts), asyncio.Event()

    async def late(request: web.Request, step: Step) -> web.Response:
        if len(stand_in.asked) == len(scripts):
            all_asked.set()
        await all_asked.wait()
        return await stand_in.right(request, step)

    stand_in.answer = late
    found = await driven(stand_in, scripts, 80)
    assert found.mismatches == []
    last_due_ms = 39 / 80 * 1000
    assert (found.outcome_latencies.percentile(100) or 0) >= last_due_ms * 0.99
    assert (found.outcome_latencies.percentile(50) or 0) >= last_due_ms * 0.45


async def test_a_worker_that_cannot_answer_yet_is_asked_again_with_the_same_id() -> None:
    scripts = [steps[:1] for steps in population("run", 3, 2, NO_MISTAKES)]
    stand_in = standing_in(scripts)

    async def at_the_second_try(request: web.Request, step: Step) -> web.Response:
        if stand_in.asked.count(step.command_id) == 1:
            return web.json_response({"type": "not_ready"}, status=503)
        return await stand_in.right(request, step)

    stand_in.answer = at_the_second_try
    found = await driven(stand_in, scripts, 100)
    assert found.mismatches == []
    assert sorted(stand_in.asked) == sorted(2 * [steps[0].command_id for steps in scripts])


async def test_an_orders_commands_go_one_after_the_other() -> None:
    scripts = list(population("run", 5, 2, NO_MISTAKES))
    stand_in = standing_in(scripts)
    found = await driven(stand_in, scripts, 1_000)
    assert found.mismatches == []
    for steps in scripts:
        own = [command_id for command_id in stand_in.asked if stand_in.steps[command_id].order_id == steps[0].order_id]
        assert own == [step.command_id for step in steps]


async def test_wrong_answers_are_mismatches() -> None:
    scripts = [steps[:1] for steps in population("run", 2, 2, NO_MISTAKES)]
    stand_in = standing_in(scripts)

    async def wrong(request: web.Request, step: Step) -> web.Response:
        return web.json_response({"version": step.version + 1})

    stand_in.answer = wrong
    found = await driven(stand_in, scripts, 100)
    assert found.mismatches == [f"{steps[0].command_id}: accepted at version 2, not accepted at 1" for steps in scripts]


async def test_a_repeat_that_is_told_something_else_is_a_mismatch() -> None:
    scripts = [steps for steps in population("run", 200, 2) if any(step.repeat for step in steps)][:1]
    stand_in = standing_in(scripts)

    async def forgetful(request: web.Request, step: Step) -> web.Response:
        if stand_in.asked.count(step.command_id) == 2:
            return web.json_response({"reason": "order_already_created", "version": step.version}, status=409)
        return await stand_in.right(request, step)

    stand_in.answer = forgetful
    found = await driven(stand_in, scripts, 100)
    assert len(found.mismatches) == 1
    assert found.mismatches[0].endswith("when repeated")


async def test_an_answer_that_is_none_is_a_mismatch_and_is_not_waited_for() -> None:
    scripts = [steps[:1] for steps in population("run", 2, 2, NO_MISTAKES)]
    stand_in = standing_in(scripts)

    async def broken(request: web.Request, step: Step) -> web.Response:
        return web.Response(status=500, text="<h1>Oops</h1>")

    stand_in.answer = broken
    async with asyncio.timeout(10):
        found = await driven(stand_in, scripts, 100)
    assert len(found.mismatches) == 2
    assert all("status 500" in text for text in found.mismatches)


async def test_progress_comes_once_a_second() -> None:
    scripts = [steps[:1] for steps in population("run", 24, 2, NO_MISTAKES)]
    told: list[Progress] = []
    await driven(standing_in(scripts), scripts, 20, told.append)
    assert 1 <= len(told) <= told[-1].seconds
    assert 0 < told[0].sent <= told[0].total == 24
