"""Chains: every instance is finished, or has a timer that will wake it; and the timers are those of the instances."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from app.audit.checker import Shared
from app.audit.findings import Findings
from app.audit.records import Kind, Seen

AGENTS = "chaining-"
INSTANCES, TIMERS, WAITING = "instances", "timers", "waiting"
_DUE_BYTES = 8

Timer = tuple[str, str, str, int]
"""Agent, instance, name, due in ms since 1970."""


class Chains:
    """The instances and timers of all chains. About 300 bytes for each timer and for each unfinished instance."""

    kinds = frozenset({Kind.ROW, Kind.EVENT})

    def __init__(self, shared: Shared) -> None:
        self._set: dict[tuple[str, str], frozenset[Timer]] = {}
        self._rows: set[Timer] = set()
        self._begun: set[str] = set()
        self.finished = Findings(
            "chains-finished-or-timed",
            "every chain instance is finished, or has a timer",
            excuse=lambda key: isinstance(key, tuple) and shared.is_parked("chaining-fulfilment", str(key[1])),
        )
        self.timers = Findings("timers-equal-instances", "the timers that will fire are those that instances have set")
        self._waits: dict[tuple[str, str], int] = {}
        self._listed: set[tuple[str, str, int]] = set()
        self.listed = Findings(
            "waiting-equal-instances", "the list of those that wait has each unfinished instance once, and no other"
        )

    @property
    def findings(self) -> Sequence[Findings]:
        """The books of its invariants."""
        return self.finished, self.timers, self.listed

    def take(self, seen: Seen) -> None:
        """The next row of a chain, or an order that one must look after."""
        if seen.place.kind is Kind.EVENT:
            self._order(seen)
        elif seen.place.owner.startswith(AGENTS):
            try:
                if seen.table == INSTANCES:
                    self._instance(seen, seen.row_key.decode())
                elif seen.table == TIMERS:
                    self._timer(seen)
                elif seen.table == WAITING:
                    self._waiting(seen)
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                self.finished.broken(f"{seen.at}: cannot be read as a chain's row: {error!r}")

    def _order(self, seen: Seen) -> None:
        message = seen.message
        if message is not None and message.fact == "order.created" and message.data.get("fulfil"):
            self.finished.checked += 1
            if message.subject not in self._begun:
                text = f"{seen.at}: no chain has taken up {message.subject}, which is to be fulfilled"
                self.finished.open(("order", message.subject), seen.now, text)

    def _instance(self, seen: Seen, id_: str) -> None:
        instance = (seen.place.owner, id_)
        row = seen.row
        if row is None:
            self.finished.broken(f"{seen.at}: the instance {id_} is gone")
            return
        if seen.place.owner == "chaining-fulfilment":
            self._begun.add(id_)
            self.finished.settle(("order", id_))
        self.finished.checked += 1
        if row["finished"] or row["timers"]:
            self.finished.settle(instance)
        else:
            text = f"{id_} of {seen.place.owner} waits for {row['waiting_for']!r} since {row['since']}, without a timer"
            self.finished.open(instance, seen.now, text)
        before = self._set.pop(instance, frozenset())
        after = frozenset((*instance, name, _ms(due)) for name, due in row["timers"].items())
        if after:
            self._set[instance] = after
        for timer in before ^ after:
            self._match(seen, timer)
        if row.get("counted"):  # those that were written before there was a list are not in it
            self._stands(seen, instance, None if row["finished"] else _exact_ms(row["since"]))

    def _stands(self, seen: Seen, instance: tuple[str, str], since: int | None) -> None:
        """The instance waits since then, or no more."""
        before = self._waits.pop(instance, None)
        if since is not None:
            self._waits[instance] = since
        for moment in {before, since} - {None}:
            self._match_listed(seen, (*instance, moment or 0))

    def _waiting(self, seen: Seen) -> None:
        id_, since = seen.row_key[_DUE_BYTES:].decode(), int.from_bytes(seen.row_key[:_DUE_BYTES], "big")
        listed = (seen.place.owner, id_, since)
        (self._listed.discard if seen.row is None else self._listed.add)(listed)
        self._match_listed(seen, listed)

    def _match_listed(self, seen: Seen, listed: tuple[str, str, int]) -> None:
        self.listed.checked += 1
        waits, is_listed = self._waits.get(listed[:2]) == listed[2], listed in self._listed
        if waits == is_listed:
            self.listed.settle(listed)
            return
        said = "waits, and is not listed" if waits else "is listed, and does not wait since then"
        self.listed.open(listed, seen.now, f"{listed[1]} of {listed[0]} {said} ({listed[2]} ms)")

    def _timer(self, seen: Seen) -> None:
        name, _, id_ = seen.row_key[_DUE_BYTES:].partition(b"\x00")
        timer = (seen.place.owner, id_.decode(), name.decode(), int.from_bytes(seen.row_key[:_DUE_BYTES], "big"))
        (self._rows.discard if seen.row is None else self._rows.add)(timer)
        self._match(seen, timer)

    def _match(self, seen: Seen, timer: Timer) -> None:
        self.timers.checked += 1
        is_set, will_fire = timer in self._set.get(timer[:2], ()), timer in self._rows
        if is_set == will_fire:
            self.timers.settle(timer)
            return
        said = "has set it, but it will not fire" if is_set else "has not set it, but it will fire"
        self.timers.open(timer, seen.now, f"the timer {timer[2]} at {timer[3]} ms: {timer[1]} of {timer[0]} {said}")


def _ms(due: datetime | str) -> int:
    moment = due if isinstance(due, datetime) else datetime.fromisoformat(due)
    return int(moment.timestamp() * 1000)


def _exact_ms(since: datetime) -> int:
    return (since - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
