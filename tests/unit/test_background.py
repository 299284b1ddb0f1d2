"""Work in the background goes on after errors, says so, and ends when it is told to."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

import pytest

from app.runtime.background import PAUSE_S_MAX, Background
from app.runtime.simulated import SimulatedClock

TURNS_MAX = 2_000


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(TURNS_MAX):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it does not come to that")


async def test_what_fails_is_told_and_begun_again_ever_later(caplog: pytest.LogCaptureFixture) -> None:
    clock = SimulatedClock(runs=True)
    background, began = Background(clock), list[float]()

    async def work() -> None:
        began.append(clock.monotonic())
        if len(began) <= 12:
            raise ZeroDivisionError("a bug")
        await asyncio.Event().wait()

    background.keep("counting sheep", work)
    await until(lambda: len(began) == 13)
    assert "counting sheep begins again (1)" in caplog.text
    assert "ZeroDivisionError: a bug" in caplog.text
    pauses = [round(after - before, 6) for before, after in itertools.pairwise(began)]
    assert pauses[0] < 1
    assert pauses == sorted(pauses)
    assert max(pauses) < PAUSE_S_MAX + 1
    await background.stop()


async def test_what_comes_to_its_end_is_not_begun_again() -> None:
    background, ran = Background(SimulatedClock(runs=True)), list[int]()

    async def work() -> None:
        ran.append(1)

    background.keep("one thing", work)
    await until(lambda: bool(ran))
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(ran) == 1
    await background.stop()


async def test_an_error_of_what_is_done_once_is_told(caplog: pytest.LogCaptureFixture) -> None:
    background = Background(SimulatedClock(runs=True))

    async def work() -> None:
        raise ZeroDivisionError("a bug")

    background.once(work())
    await until(lambda: "failed for good" in caplog.text)
    assert "ZeroDivisionError: a bug" in caplog.text
    await background.stop()


async def test_stopping_ends_everything_and_waits_for_it() -> None:
    background, ended = Background(SimulatedClock(runs=True)), list[str]()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("ended")

    background.keep("kept", work)
    background.once(work())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await background.stop()
    assert ended == ["ended", "ended"]
