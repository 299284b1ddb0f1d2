"""Rows of a read model against what the events come to, key by key, at one version."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from app.audit.findings import Findings
from app.audit.records import Kind, Seen

Differences = Callable[[Any], Sequence[str]]
"""In what a row differs from the fold of the same version."""


class Rows:
    """The rows of one table of one agent.

    A row says how many events are in it. Where that is as many as were read, the two are compared, and the row need not
    be kept. Otherwise one of them lags behind: that is in flight. Rows of a key that is parked stay behind: that
    is excused, and told of as dead letters.
    """

    def __init__(self, findings: Findings, agent: str, table: str) -> None:
        self.agent, self.table = agent, table
        self._findings = findings
        self._rows: dict[Hashable, tuple[int, Any]] = {}

    def is_row(self, seen: Seen) -> bool:
        """Whether the record is a row of the table."""
        return seen.place == (Kind.ROW, self.agent) and seen.table == self.table

    def put(self, seen: Seen, key: Hashable) -> int | None:
        """Take a row; its version. `None` where it cannot be read as one."""
        row = seen.row
        if not isinstance(row, dict) or not isinstance(row.get("row"), dict) or not isinstance(row.get("version"), int):
            self._findings.broken(f"{seen.at}: the row of {key} is gone or cannot be read")
            return None
        self._rows[key] = row["version"], row["row"]
        version: int = row["version"]
        return version

    def compare(
        self,
        seen: Seen,
        key: Hashable,
        version: int,
        differences: Differences,
        *,
        scattered: bool = False,
    ) -> None:
        """Compare the key's row with its events, of which `version` were read.

        Where the events are `scattered` over partitions, as many of them need not be the same ones: while some are
        still to be read, a row that differs is in flight.
        """
        at, row = self._rows.get(key, (0, None))
        if row is None or at != version:
            moved = seen.place.kind is Kind.ROW
            text = f"{key}: {version} of its events are in the log, its row in {self.agent} is at another number"
            (self._findings.reopen if moved else self._findings.open)(key, seen.now, text)
            return
        if scattered and (wrong := self._wrong(row, differences)):
            self._findings.open(key, seen.now, f"{seen.at}: the row of {key} differs: {', '.join(wrong)}")
            return
        del self._rows[key]
        self._findings.settle(key)
        self.check(seen, key, row, differences)

    def check(self, seen: Seen, key: Hashable, row: Any, differences: Differences) -> None:
        """Note in what a row differs."""
        wrong = self._wrong(row, differences)
        self._findings.expect(not wrong, lambda: f"{seen.at}: the row of {key} differs: {', '.join(wrong)}")

    def _wrong(self, row: Any, differences: Differences) -> Sequence[str]:
        try:
            return differences(row)
        except (LookupError, TypeError, ValueError, ArithmeticError) as error:
            return [repr(error)]
