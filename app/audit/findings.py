"""What one invariant has come to: how much was checked, what is broken for good, and what is still open."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field

EXAMPLES_MAX = 20


@dataclass(frozen=True)
class Verdict:
    """One invariant at one moment. `in_flight` is what may still mend by itself, and therefore is no violation yet."""

    name: str
    meaning: str
    checked: int
    violations: int
    examples: tuple[str, ...]
    in_flight: int = 0


def _never(_: Hashable) -> bool:
    return False


@dataclass
class Findings:
    """One named invariant's books.

    Two ways lead to a violation. `broken`: it stands in the log, and nothing can mend it. `open`: something that must
    follow has not been seen yet; it is in flight until `settle`, and a violation once it has been open for too long.
    """

    name: str
    meaning: str
    excuse: Callable[[Hashable], bool] = _never
    """Of what has been open for too long: whether it waits for what is parked in the dead letters, and told there."""
    checked: int = 0
    _broken: int = 0
    _examples: list[str] = field(default_factory=list)
    _open: dict[Hashable, tuple[float, Callable[[], str] | str]] = field(default_factory=dict)

    def broken(self, text: str) -> None:
        """Note a violation for good."""
        self._broken += 1
        if len(self._examples) < EXAMPLES_MAX:
            self._examples.append(text)

    def expect(self, condition: bool, text: Callable[[], str] | str) -> bool:
        """Count a check, and a violation where it fails. Whether it held."""
        self.checked += 1
        if not condition:
            self.broken(text if isinstance(text, str) else text())
        return condition

    def open(self, key: Hashable, now: float, text: Callable[[], str] | str) -> None:
        """Something must follow. Opened again, it keeps the moment of the first time."""
        since = self._open[key][0] if key in self._open else now
        self._open[key] = since, text

    def reopen(self, key: Hashable, now: float, text: Callable[[], str] | str) -> None:
        """It has not come to its end, but it moves: its time begins anew."""
        self._open[key] = now, text

    def settle(self, key: Hashable) -> bool:
        """It has followed. Whether it was open."""
        return self._open.pop(key, None) is not None

    def opened(self, until: float) -> Iterator[Hashable]:
        """What has been open since `until` or longer, without an excuse."""
        return (key for key, (since, _) in self._open.items() if since <= until and not self.excuse(key))

    def is_open(self, until: float) -> bool:
        """Whether anything has been open since `until` or longer."""
        return next(self.opened(until), None) is not None

    def verdict(self, until: float) -> Verdict:
        """Now. What has been open since `until` or longer counts as a violation."""
        overdue = list(self.opened(until))
        examples = list(self._examples)
        for key in overdue[: EXAMPLES_MAX - len(examples)]:
            text = self._open[key][1]
            examples.append(text if isinstance(text, str) else text())
        in_flight = len(self._open) - len(overdue)
        return Verdict(self.name, self.meaning, self.checked, self._broken + len(overdue), tuple(examples), in_flight)
