"""Given events, when a command, then events or a refusal: the sentence of an aggregate's test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.kernel import Aggregate, Command, Event, Rejected


def given(aggregate: Aggregate[Any, Any, Any], *events: Event) -> Given:
    """Start a sentence with the events that have happened."""
    return Given(aggregate, events)


@dataclass(frozen=True)
class Given:
    """An aggregate with its history."""

    aggregate: Aggregate[Any, Any, Any]
    events: Sequence[Event]

    def when(self, command: Command) -> When:
        """Let the aggregate decide."""
        state = self.aggregate.fold(self.events)
        return When(self.aggregate.decide(state, command))


@dataclass(frozen=True)
class When:
    """A decision."""

    decision: Sequence[Event] | Rejected

    def then(self, *events: Event) -> None:
        """Assert that just these events were decided."""
        assert not isinstance(self.decision, Rejected), self.decision
        assert tuple(self.decision) == events

    def then_rejected(self, reason: str, message: str | None = None) -> None:
        """Assert the refusal's reason, and its words where they are given."""
        assert isinstance(self.decision, Rejected), self.decision
        assert self.decision.reason == reason
        assert message is None or self.decision.message == message
