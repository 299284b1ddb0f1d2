"""Interrupts: none is lost, and a coroutine may clean up. Each test is a program: signals belong to a whole process."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, os, signal
from loadtest.interrupts import Interrupts

interrupts = Interrupts()
interrupts.catch()
cleaned = []

class Finalised:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        [None for _ in range(10)]  # the handler runs here: what it raises is lost

async def cleaning():
    try:
        os.kill(os.getpid(), signal.{number})
        os.kill(os.getpid(), signal.{number})
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        cleaned.append(True)

async def never():
    raise AssertionError

try:
    {body}
except KeyboardInterrupt:
    print("interrupted", len(cleaned))
"""


def told(body: str, number: str = "SIGINT") -> str:
    program = PROGRAM.replace("{body}", body).replace("{number}", number)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_coroutine_may_clean_up_whoever_is_impatient(number: str) -> None:
    assert told("interrupts.run(cleaning())", number) == "interrupted 1"


def test_outside_of_coroutines_it_comes_at_once() -> None:
    assert told("os.kill(os.getpid(), signal.SIGINT); print('went on')") == "interrupted 0"


def test_the_second_one_does_not_interrupt_what_the_first_one_began() -> None:
    body = "try: KILL\n    finally: KILL; print('done', end=' ')".replace("KILL", "os.kill(os.getpid(), signal.SIGINT)")
    assert told(body) == "done interrupted 0"


def test_one_that_comes_before_a_coroutine_or_after_its_end_is_not_lost() -> None:
    assert told("interrupts._runs = True; os.kill(os.getpid(), signal.SIGINT); interrupts.run(never())") == (
        "interrupted 0"
    )


def test_a_coroutine_without_interrupts_returns_what_it_returns() -> None:
    assert told("print(interrupts.run(asyncio.sleep(0, 'value')))") == "value"


def test_one_that_comes_in_a_finaliser_is_not_lost() -> None:
    assert told("Finalised(); interrupts.run(never())") == "interrupted 0"


def test_nothing_interrupts_what_must_not_be() -> None:
    assert told("interrupts.ignore(); os.kill(os.getpid(), signal.SIGINT); print('went on')") == "went on"
