"""The states of a pipeline and the steps between them."""

from __future__ import annotations

from enum import StrEnum

from app.kernel.errors import IllegalTransition


class State(StrEnum):
    """Where a pipeline stands."""

    NEW = "new"
    OPENING = "opening"
    RUNNING = "running"
    RECOVERING = "recovering"
    REFUSED = "refused"
    CLOSING = "closing"
    CLOSED = "closed"


STEPS: dict[State, frozenset[State]] = {
    State.NEW: frozenset({State.OPENING, State.CLOSING}),
    State.OPENING: frozenset({State.RUNNING, State.RECOVERING, State.REFUSED, State.CLOSING}),
    State.RUNNING: frozenset({State.RECOVERING, State.CLOSING}),
    State.RECOVERING: frozenset({State.OPENING, State.CLOSING}),
    State.REFUSED: frozenset({State.CLOSING}),
    State.CLOSING: frozenset({State.CLOSED}),
    State.CLOSED: frozenset(),
}


def check_step(state: State, to: State) -> None:
    """Raise `IllegalTransition` where the lifecycle has no such step."""
    if to not in STEPS[state]:
        raise IllegalTransition(f"a pipeline that is {state} cannot become {to}")
