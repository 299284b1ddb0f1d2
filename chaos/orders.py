"""What a worker is told to do to itself: a small file, read again whenever it changes."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import msgspec

ORDERS_FILE = "CHAOS_ORDERS"
"""The environment variable that names the file."""
LOOK_EVERY_S = 0.05


class Orders(msgspec.Struct, frozen=True):
    """To die at an effect (one of the pipeline's, or `store-write:<agent>`), after it has come so many times; to be
    slow in every fold; to be wrong about the time."""

    kill_at: str = ""
    kill_after: int = 0
    slow_ms: int = 0
    clock_offset_ms: int = 0

    def write(self, file: Path) -> None:
        """Give the orders; whoever reads them sees all or nothing of them."""
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(self))
        new.replace(file)


class Obedience:
    """Follows the orders in a file, inside of a worker."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._looked_s = -LOOK_EVERY_S
        self._seen: int | None = None
        self._left = 0
        self.orders = Orders()

    def effect(self, name: str) -> None:
        """The pipeline has come so far."""
        orders = self.look()
        if name == "folded" and orders.slow_ms:
            time.sleep(orders.slow_ms / 1000)
        if orders.kill_at and name.startswith(orders.kill_at):
            self._left -= 1
            if self._left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def look(self) -> Orders:
        """The orders as they are now."""
        now_s = time.monotonic()
        if now_s - self._looked_s >= LOOK_EVERY_S:
            self._looked_s = now_s
            with contextlib.suppress(OSError, msgspec.DecodeError):
                changed = self._file.stat().st_mtime_ns
                if changed != self._seen:
                    self.orders = msgspec.json.decode(self._file.read_bytes(), type=Orders)
                    self._seen, self._left = changed, self.orders.kill_after
        return self.orders
