"""Progress on the terminal: one line that changes, or one line a second where the output is no terminal."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.status import Status

from loadtest.drive import Progress


class Ticker:
    """Shows progress."""

    def __init__(self, console: Console, begin: str = "starting …") -> None:
        self._console, self._begin = console, begin
        self._status: Status | None = None

    def __enter__(self) -> Ticker:
        if self._console.is_terminal:
            self._status = self._console.status(self._begin)
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def __call__(self, progress: Progress) -> None:
        """Show where the driving stands."""
        p99 = "" if progress.outcome_p99_ms is None else f", p99 {progress.outcome_p99_ms:.0f} ms"
        text = (
            f"{progress.seconds:4.0f} s  {progress.sent:,} of {progress.total:,} sent, "
            f"{progress.outcomes:,} outcomes, {progress.waiting:,} waiting{p99}"
        )
        if self._status is not None:
            self._status.update(text)
        else:
            self._console.print(text, highlight=False, soft_wrap=True)
