"""Pauses grow and end somewhere, and work that nobody wants any more is given up at once."""

from __future__ import annotations

import asyncio

import pytest

from app.runtime.patience import FIRST_S, pause_s, unless


def test_pauses_double_up_to_the_most() -> None:
    assert [pause_s(n, 1.0) for n in (1, 2, 3, 4, 5, 6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert pause_s(1_000_000, 3.0) == 3.0
    assert pause_s(1, 3.0) == FIRST_S


async def test_work_comes_to_its_end_or_raises() -> None:
    ended, done = asyncio.Event(), list[str]()

    async def work() -> None:
        await asyncio.sleep(0)
        done.append("done")

    async def broken() -> None:
        raise ZeroDivisionError("a bug")

    await unless(ended, work)
    assert done == ["done"]
    with pytest.raises(ZeroDivisionError, match="a bug"):
        await unless(ended, broken)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_work_is_given_up_when_it_is_to_end() -> None:
    ended, cleaned = asyncio.Event(), list[str]()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append("cleaned")

    asyncio.get_running_loop().call_soon(ended.set)
    await asyncio.wait_for(unless(ended, work), 5.0)
    assert cleaned == ["cleaned"]
    assert asyncio.all_tasks() == {asyncio.current_task()}
