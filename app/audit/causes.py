"""Invariants between commands, outcomes and events: one answer for each question, a cause for each effect."""

from __future__ import annotations

from collections.abc import Sequence

from app.audit.checker import Shared
from app.audit.findings import Findings
from app.audit.ledger import Flag, Ledger
from app.audit.records import Kind, Message, Seen

CHAINS = "/eventfleet/chains/"
OWN_SENDERS = (CHAINS, "/eventfleet/reactions/")
"""Whoever else sends commands may name causes that lie outside of the fleet."""

Place = tuple[str, int, int]
"""Topic, partition, offset."""


class Outcomes:
    """Every command has exactly one outcome, however often it was sent; or it lies in the dead letters."""

    kinds = frozenset({Kind.COMMAND, Kind.OUTCOME, Kind.DEAD_LETTER})

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._commands = shared.commands
        self._waiting: dict[str, set[Place]] = {}
        self._dead: set[Place] = set()
        self.outcomes = Findings(
            "one-outcome-per-command", "every command id has exactly one outcome, or lies in the dead letters"
        )

    @property
    def findings(self) -> Sequence[Findings]:
        """The books of its invariants."""
        return (self.outcomes,)

    def take(self, seen: Seen) -> None:
        """The next command, outcome or dead letter."""
        if seen.place.kind is Kind.COMMAND:
            self._command(seen)
        elif seen.place.kind is Kind.DEAD_LETTER:
            self._dead_letter(seen)
        elif seen.message is not None:
            self._outcome(seen, str(seen.message.data.get("command_id")))

    def _command(self, seen: Seen) -> None:
        message, place = seen.message, (seen.topic, seen.partition, seen.offset)
        self.outcomes.checked += 1
        if message is None:
            self._open(place, None, seen, "unreadable, and not in the dead letters")
            return
        self._commands.mark(message.id, Flag.SEEN)
        outcomes = seen.topic.removesuffix(".commands") + ".outcomes"
        remembered = self._shared.remembers(outcomes, seen.partition, seen.timestamp_ms)
        if remembered and not self._commands.has(message.id, Flag.ANSWERED):
            self._open(place, message.id, seen, f"command {message.id} ({message.type}) has no outcome")

    def _open(self, place: Place, command_id: str | None, seen: Seen, text: str) -> None:
        if place in self._dead:
            self._dead.discard(place)
            return
        if command_id is not None:
            self._waiting.setdefault(command_id, set()).add(place)
        self.outcomes.open(command_id or place, seen.now, f"{seen.at}: {text}")

    def _outcome(self, seen: Seen, command_id: str) -> None:
        again = self._commands.mark(command_id, Flag.ANSWERED)
        if again:
            self.outcomes.broken(f"{seen.at}: command {command_id} has a second outcome")
        self._waiting.pop(command_id, None)
        self.outcomes.settle(command_id)

    def _dead_letter(self, seen: Seen) -> None:
        place = _source(seen)
        if place is None:
            return
        places = self._waiting.get(seen.message.id, set()) if seen.message is not None else set()
        if not self.outcomes.settle(place) and place not in places:
            self._dead.add(place)
        places.discard(place)
        if seen.message is not None and not places and self._waiting.pop(seen.message.id, None) is not None:
            self.outcomes.settle(seen.message.id)


def _source(seen: Seen) -> Place | None:
    """Where a dead letter lay before it was one."""
    try:
        headers = seen.headers
        topic = headers["source-topic"].decode()
        return topic, int(headers["source-partition"]), int(headers["source-offset"])
    except (KeyError, ValueError):
        return None


class Claims:
    """Outcomes and events fit: each event is claimed by one accepted outcome, each claim is an event."""

    kinds = frozenset({Kind.EVENT, Kind.OUTCOME})

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._events = shared.events
        self.claims = Findings(
            "outcomes-claim-events", "each event is claimed by one accepted outcome, and each claimed event exists"
        )

    @property
    def findings(self) -> Sequence[Findings]:
        """The books of its invariants."""
        return (self.claims,)

    def take(self, seen: Seen) -> None:
        """The next event or outcome."""
        if seen.message is None:
            return
        self.claims.checked += 1
        if seen.place.kind is Kind.EVENT:
            self._event(seen, seen.message.id)
        else:
            self._outcome(seen, seen.message)

    def _event(self, seen: Seen, event_id: str) -> None:
        outcomes = seen.topic.removesuffix(".events") + ".outcomes"
        if self._events.has(event_id, Flag.ANSWERED):
            self.claims.settle(event_id)
        elif self._shared.remembers(outcomes, seen.partition, seen.timestamp_ms):
            self.claims.open(event_id, seen.now, f"{seen.at}: no outcome claims the event {event_id}")

    def _outcome(self, seen: Seen, message: Message) -> None:
        command_id, claimed = message.data.get("command_id"), message.data.get("events") or []
        if claimed and message.data.get("rejected"):
            self.claims.broken(f"{seen.at}: command {command_id} was rejected, and has events")
        for event_id in claimed:
            if self._events.mark(event_id, Flag.ANSWERED):
                self.claims.broken(f"{seen.at}: the event {event_id} is claimed a second time, by {command_id}")
            if self._events.has(event_id, Flag.SEEN):
                self.claims.settle(event_id)
            else:
                text = f"{seen.at}: command {command_id} claims the event {event_id}, which is not in the log"
                self.claims.open(event_id, seen.now, text)


COMMAND, EVENT, FIRST = "command", "event", "first event of"


class Causes:
    """Whatever names a cause has one, and carries the correlation id that it should.

    An event and an outcome are caused by a command, an alert by an event, a command that a chain or a reaction has sent
    by an event, or by a timer of an instance (`<chain>:<instance>:<timer>:<due>`). All have their cause's correlation
    id, but for what a chain sends: that has the one of its order's beginning, however far away the cause came from.
    """

    kinds = frozenset({Kind.COMMAND, Kind.EVENT, Kind.OUTCOME, Kind.ALERT})

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._ledgers = {COMMAND: shared.commands, EVENT: shared.events, FIRST: Ledger()}
        self._pending: dict[tuple[str, str], list[tuple[str, str]]] = {}
        self.causes = Findings("causes-exist", "whatever names a cause has one: the message stands in its topic")
        self.correlations = Findings("correlations-consistent", "a message has the correlation id of what began it")

    @property
    def findings(self) -> Sequence[Findings]:
        """The books of its invariants."""
        return self.causes, self.correlations

    def take(self, seen: Seen) -> None:
        """The next message."""
        if (message := seen.message) is None:
            return
        match seen.place.kind:
            case Kind.COMMAND:
                self._known(COMMAND, message.id, message.correlationid or message.id)
                self._command(seen, message)
            case Kind.EVENT:
                self._known(EVENT, message.id, message.correlationid or "")
                if message.version == 1:
                    self._known(FIRST, f"{seen.place.owner}/{message.subject}", message.correlationid or "")
                self._caused(seen, message, COMMAND, seen.topic.removesuffix(".events") + ".commands")
            case Kind.OUTCOME:
                self._caused(seen, message, COMMAND, seen.topic.removesuffix(".outcomes") + ".commands")
            case _:
                self._caused(seen, message, EVENT, seen.topic)

    def _command(self, seen: Seen, message: Message) -> None:
        if not message.source.startswith(OWN_SENDERS):
            return
        of_chain = message.source.startswith(CHAINS)
        if not (of_chain and _is_timer(message)):
            self._caused(seen, message, EVENT, seen.topic, correlated=not of_chain)
        if of_chain and "order_id" in message.data:
            self._correlated(seen, message, FIRST, f"orders/{message.data['order_id']}")

    def _caused(self, seen: Seen, message: Message, kind: str, log: str, *, correlated: bool = True) -> None:
        self.causes.checked += 1
        cause = message.causationid or ""
        if not self._ledgers[kind].has(cause, Flag.SEEN):
            if not self._shared.remembers(log, seen.partition, seen.timestamp_ms):
                return
            text = f"{seen.at}: {message.type} {message.id}: its cause {cause!r} is not in the log"
            self.causes.open((kind, cause), seen.now, text)
        if correlated:
            self._correlated(seen, message, kind, cause)

    def _correlated(self, seen: Seen, message: Message, kind: str, of: str) -> None:
        text, correlation = f"{seen.at}: {message.type} {message.id}", message.correlationid or ""
        if self._ledgers[kind].has(of, Flag.SEEN):
            self._compare(kind, of, correlation, text)
        else:
            self._pending.setdefault((kind, of), []).append((text, correlation))

    def _known(self, kind: str, id_: str, correlation: str) -> None:
        self._ledgers[kind].mark(id_, Flag.SEEN)
        self._ledgers[kind].correlate(id_, correlation)
        for text, wanted in self._pending.pop((kind, id_), ()):
            self._compare(kind, id_, wanted, text)
        self.causes.settle((kind, id_))

    def _compare(self, kind: str, of: str, correlation: str, text: str) -> None:
        self.correlations.expect(
            self._ledgers[kind].correlates(of, correlation),
            lambda: f"{text} has the correlation id {correlation!r}, the {kind} {of} another",
        )


def _is_timer(message: Message) -> bool:
    """Whether a timer of its chain has caused a command."""
    chain = message.source.removeprefix(CHAINS)
    return (message.causationid or "").startswith(f"{chain}:")
