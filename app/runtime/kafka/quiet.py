"""Keeps an outage from filling the log: what is said again and again, by many clients at once, is said once in a while.

So is asyncio's complaint that it has no file handle left for a connection: it makes it a hundred times a second.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

EVERY_S = 5.0
KINDS_MAX = 1_000
"""Kinds of messages that are remembered; past that all of them are forgotten, and said once more."""


class OnceInAWhile(logging.Filter):
    """Lets each kind of message of a logger through once in `every_s`, and then tells how many were left out.

    A kind is the message before its values are filled in: which broker could not be reached is not worth a line each.
    """

    def __init__(self, every_s: float = EVERY_S, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._every_s, self._now = every_s, now
        self._said: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is let through."""
        kind, now = (record.name, str(record.msg)), self._now()
        said_s, left_out = self._said.get(kind, (-self._every_s, 0))
        if now - said_s < self._every_s:
            self._said[kind] = said_s, left_out + 1
            return False
        if len(self._said) >= KINDS_MAX:
            self._said.clear()
        self._said[kind] = now, 0
        if left_out:
            record.msg = f"{str(record.msg).rstrip()} (and {left_out} more like this)"
        return True


def calm_clients() -> None:
    """Let aiokafka and asyncio tell what is wrong, but not all the time. Call it once their modules are imported."""
    calm = OnceInAWhile()  # filters are not inherited: every logger needs it
    logging.getLogger("aiokafka").setLevel(logging.WARNING)
    for name in [
        "asyncio",
        "aiokafka",
        *(name for name in logging.root.manager.loggerDict if name.startswith("aiokafka.")),
    ]:
        logging.getLogger(name).addFilter(calm)
