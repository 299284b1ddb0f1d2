"""Windows: each event is in a final value, or among the late ones, or in a row that is open still; never twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from app.audit.checker import Shared
from app.audit.findings import Findings
from app.audit.orders import CATEGORY, CREATED, moment
from app.audit.records import Kind, Message, Seen

AGENTS = "windowing-"
OPEN_TABLES = {"partials", "gathering", "sessions"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Rule:
    """What a window counts: events of one type, a sum of one of their fields. Spans in ms; a session has no step."""

    fact: str
    summed: str
    size_ms: int = 0
    step_ms: int = 0
    key: str | None = None

    def starts(self, message: Message) -> list[int | None]:
        """The starts of the spans that an event is in. A session's is not known from one event: all are one."""
        if not self.step_ms:
            return [None]
        at = _ms(moment(message.time))
        last = at - at % self.step_ms
        return list(range(last - self.size_ms + self.step_ms, last + 1, self.step_ms))


MINUTE_MS = 60_000
RULES = {
    "orders-per-minute": Rule(CREATED, "total", MINUTE_MS, MINUTE_MS),
    "payments-per-five-minutes": Rule("order.payment-processed", "amount", 5 * MINUTE_MS, MINUTE_MS),
    "shopping-sprees": Rule(CREATED, "total", key="customer_id"),
}
"""A sliding window has no final values, and is not here."""

Span = tuple[str, int | None, str | None]
"""Window, start, key."""


@dataclass(slots=True)
class Balance:
    """Events less what became of them. In the end it is nothing."""

    count: int = 0
    total: Decimal = Decimal(0)

    def add(self, sign: int, count: int, total: Decimal) -> None:
        """Book so many events of so much."""
        self.count += sign * count
        self.total += sign * total

    @property
    def even(self) -> bool:
        """Whether nothing is left."""
        return not self.count and not self.total


@dataclass
class _Booked:
    """What one open row says, to be taken back when it changes."""

    entries: list[tuple[Span, int, Decimal]] = field(default_factory=list)


class Windows:
    """Span by span: Σ events = Σ finals + late + open. 100 bytes for each final, 300 for each span that is uneven."""

    kinds = frozenset({Kind.EVENT, Kind.FINAL, Kind.LATE, Kind.ROW, Kind.DEAD_LETTER})

    def __init__(self, shared: Shared) -> None:
        self._uneven: dict[Span, Balance] = {}
        self._rows: dict[tuple[str, str, int, bytes], _Booked] = {}
        self._finals: set[int] = set()
        self._dead: set[str] = set()
        self.sums = Findings(
            "windows-equal-events",
            "in each window, final values, late events and what is open are all events, to the cent",
        )
        self.once = Findings("finals-exactly-once", "a window's final value is told once")

    @property
    def findings(self) -> Sequence[Findings]:
        """The books of its invariants."""
        return self.sums, self.once

    def take(self, seen: Seen) -> None:
        """The next event, final value, late event or open row."""
        try:
            match seen.place.kind:
                case Kind.EVENT:
                    self._event(seen)
                case Kind.FINAL:
                    self._final(seen)
                case Kind.LATE:
                    self._late(seen)
                case Kind.ROW:
                    self._row(seen)
                case _:
                    self._dead_letter(seen)
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
            self.sums.broken(f"{seen.at}: cannot be read as a window's: {error!r}")

    def _event(self, seen: Seen) -> None:
        message = seen.message
        if message is None or seen.place.owner != CATEGORY:
            return
        for name, rule in RULES.items():
            if message.fact == rule.fact:
                self.sums.checked += 1
                for span in _spans(name, rule, message):
                    self._book(seen, span, 1, 1, Decimal(message.data[rule.summed]))

    def _final(self, seen: Seen) -> None:
        if (message := seen.message) is None or seen.place.owner not in RULES:
            return
        rule, data = RULES[seen.place.owner], message.data
        final = hash((seen.place.owner, data["start"], data["key"]))
        said = f"{seen.at}: the value of {seen.place.owner} from {data['start']} on, key {data['key']}, is told twice"
        if self.once.expect(final not in self._finals, said):
            self._finals.add(final)
        start = _ms(moment(data["start"])) if rule.step_ms else None
        self._book(seen, (seen.place.owner, start, data["key"]), -1, data["count"], Decimal(data["total"]))

    def _late(self, seen: Seen) -> None:
        name = seen.place.owner
        if (rule := RULES.get(name)) is None:
            return
        if seen.message is None:  # no event: a part of a span, which came after all others were final
            part = seen.row
            start = part["start"] if rule.step_ms else None
            self._book(seen, (name, start, part["key"]), -1, part["row"]["count"], Decimal(part["row"]["total"]))
            return
        missed = {_ms(moment(start)) for start in seen.headers["missed"].decode().split(",")}
        for span in _spans(name, rule, seen.message):
            if span[1] is None or span[1] in missed:
                self._book(seen, span, -1, 1, Decimal(seen.message.data[rule.summed]))

    def _row(self, seen: Seen) -> None:
        name = seen.place.owner.removeprefix(AGENTS)
        if seen.place.owner == name or name not in RULES or seen.table not in OPEN_TABLES:
            return
        place = (name, seen.table, seen.partition, seen.row_key)
        for span, count, total in self._rows.pop(place, _Booked()).entries:
            self._book(seen, span, 1, count, total)
        if seen.row is None:
            return
        figures = seen.row["open"] if seen.table == "sessions" else [seen.row]
        booked = _Booked()
        for figure in figures:
            start = figure["start"] if RULES[name].step_ms else None
            span = (name, start, figure["key"])
            booked.entries.append((span, figure["row"]["count"], Decimal(figure["row"]["total"])))
        self._rows[place] = booked
        for span, count, total in booked.entries:
            self._book(seen, span, -1, count, total)

    def _dead_letter(self, seen: Seen) -> None:
        """What lies there is in no window, and is told of: the sums of that window cannot be even."""
        name = seen.place.owner.removeprefix(AGENTS)
        if seen.place.owner != name and name not in self._dead:
            self._dead.add(name)
            for span in [span for span in self._uneven if span[0] == name]:
                self.sums.settle(span)

    def _book(self, seen: Seen, span: Span, sign: int, count: int, total: Decimal) -> None:
        balance = self._uneven.setdefault(span, Balance())
        balance.add(sign, count, total)
        if balance.even:
            del self._uneven[span]
            self.sums.settle(span)
        elif span[0] not in self._dead:
            self.sums.reopen(span, seen.now, lambda: _uneven(span, balance))


def _spans(name: str, rule: Rule, message: Message) -> Iterator[Span]:
    key = None if rule.key is None else str(message.data[rule.key])
    return ((name, start, key) for start in rule.starts(message))


def _uneven(span: Span, balance: Balance) -> str:
    name, start, key = span
    since = "" if start is None else f" from {(_EPOCH + timedelta(milliseconds=start)).isoformat()} on"
    whose = "" if key is None else f" of {key}"
    what = f"{balance.count} events of {balance.total}"
    return f"{name}{since}{whose}: {what} are in the log, and neither final nor late nor open (below 0: too often)"


def _ms(time: Any) -> int:
    ms: int = (time - _EPOCH) // timedelta(milliseconds=1)
    return ms
