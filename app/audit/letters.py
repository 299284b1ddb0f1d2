"""Dead letters are no violation: they are told of. But a sequence that is parked must lie there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from app.audit.checker import Shared
from app.audit.findings import Findings
from app.audit.records import Kind, Seen

_PARKED = b"parked:"


def parked_key(seen: Seen) -> bytes | None:
    """Of an engine's row, the key whose sequence it says is parked."""
    return seen.row_key[len(_PARKED) :] if seen.row_key.startswith(_PARKED) else None


class Letters:
    """Which sequences are parked, and what lies in the dead letters, by agent and cause."""

    kinds = frozenset({Kind.ENGINE_ROW, Kind.DEAD_LETTER})

    def __init__(self, shared: Shared) -> None:
        self._parked = shared.parked
        self._keys: set[tuple[str, bytes]] = set()
        self._lying: dict[tuple[str, int, str], str] = {}
        self.accounted = Findings(
            "parked-keys-accounted", "the records of a parked key lie in its agent's dead letters"
        )

    @property
    def counts(self) -> Counter[tuple[str, str]]:
        """How many letters lie there unsettled, by agent and cause."""
        return Counter((agent, cause) for (agent, _, _), cause in self._lying.items())

    @property
    def findings(self) -> Sequence[Findings]:
        """The books of its invariants."""
        return (self.accounted,)

    def take(self, seen: Seen) -> None:
        """The next dead letter, or row that parks a key."""
        if seen.place.kind is Kind.DEAD_LETTER:
            self._lies(seen, {name: value.decode(errors="replace") for name, value in seen.headers.items()})
            self._keys.add((seen.place.owner, seen.key))
            self.accounted.settle((seen.place.owner, seen.key))
        elif (key := parked_key(seen)) is not None:
            self._parks(seen, (seen.place.owner, key))

    def _lies(self, seen: Seen, told: dict[str, str]) -> None:
        """A letter lies there until its settlement comes; tried again, it is written again under the same name."""
        if "settles" in told:
            self._lying.pop((seen.place.owner, seen.partition, told["settles"]), None)
        else:
            letter = f"{told.get('sequence', seen.offset)}#{told.get('number')}"
            self._lying[seen.place.owner, seen.partition, letter] = told.get("cause", "?")

    def _parks(self, seen: Seen, parked: tuple[str, bytes]) -> None:
        self.accounted.checked += 1
        if seen.row is None:
            self._parked.pop(parked, None)
            self.accounted.settle(parked)
            return
        self._parked[parked] = seen.partition
        if parked not in self._keys:
            text = f"{seen.at}: the key {parked[1]!r} of {parked[0]} is parked, and not in its dead letters"
            self.accounted.open(parked, seen.now, text)
