"""The auditor: all invariants at once, fed with raw records, asked for their verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from app.audit.alerts import Alerts
from app.audit.causes import Causes, Claims, Outcomes
from app.audit.chains import Chains
from app.audit.checker import Checker, Shared
from app.audit.findings import Verdict
from app.audit.letters import Letters
from app.audit.orders import OrderRows, Orders
from app.audit.read_models import CustomerOrders, Customers, OrdersByDay
from app.audit.records import Kind, Seen
from app.audit.stock import Reservations, Stock
from app.audit.streams import Streams
from app.audit.windows import Windows


@dataclass(frozen=True)
class Audit:
    """The verdict on everything. `dead_letters` are counted by (agent, cause): told of, but no violations."""

    verdicts: tuple[Verdict, ...]
    records: int = 0
    dead_letters: dict[tuple[str, str], int] = field(default_factory=dict)

    @property
    def violations(self) -> int:
        """How many there are."""
        return sum(verdict.violations for verdict in self.verdicts)

    @property
    def checked(self) -> int:
        """How many things were checked."""
        return sum(verdict.checked for verdict in self.verdicts)

    @property
    def in_flight(self) -> int:
        """How much was not finished yet when the last record was read, and is no violation."""
        return sum(verdict.in_flight for verdict in self.verdicts)

    @property
    def ok(self) -> bool:
        """Whether every promise was kept."""
        return not self.violations

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "ok": self.ok,
            "violations": self.violations,
            "invariants": [
                {"name": v.name, "checked": v.checked, "violations": v.violations, "examples": list(v.examples)}
                for v in self.verdicts
            ],
            "checked": self.checked,
            "records": self.records,
            "in_flight": self.in_flight,
            "dead_letters": {f"{agent}: {cause}": n for (agent, cause), n in sorted(self.dead_letters.items())},
        }


class Auditor:
    """Keeps the books. It is a fold: records may come in any order between partitions, and further ones at any time."""

    def __init__(self) -> None:
        self.shared = shared = Shared()
        self._letters = Letters(shared)
        stock, orders = Stock(shared), Orders()
        # In this order a record's ids are noted before others ask for them.
        self.checkers: tuple[Checker, ...] = (
            Streams(shared),
            self._letters,
            Outcomes(shared),
            Claims(shared),
            Causes(shared),
            orders,
            OrderRows(shared, orders),
            OrdersByDay(shared),
            Customers(shared),
            CustomerOrders(shared, orders),
            stock,
            Reservations(shared, stock),
            Chains(shared),
            Alerts(shared),
            Windows(shared),
        )
        self._takers = {kind: [c.take for c in self.checkers if kind in c.kinds] for kind in Kind}
        self._kinds: Counter[Kind] = Counter()

    @property
    def records(self) -> int:
        """How many records were read."""
        return self._kinds.total()

    def take(self, records: Iterable[Seen]) -> None:
        """The next records, in order within each partition."""
        for seen in records:
            self._kinds[seen.place.kind] += 1
            for take in self._takers[seen.place.kind]:
                take(seen)

    def is_closed(self, until: float) -> bool:
        """Whether everything that was begun until then has come to its end."""
        return not any(found.is_open(until) for checker in self.checkers for found in checker.findings)

    def audit(self, until: float) -> Audit:
        """The verdict. What was begun until then and has not come to its end counts as a violation."""
        verdicts = tuple(found.verdict(until) for checker in self.checkers for found in checker.findings)
        return Audit(verdicts, self.records, dict(self._letters.counts))
