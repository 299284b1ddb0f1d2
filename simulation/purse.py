"""A witness among aggregates: its decisions are of no event, of one, or of several, as the shop's never are."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import ClassVar

import msgspec

from app.kernel import Aggregate, Command, Event, Rejected
from app.kernel.words import Id


class MoveCoins(Command, frozen=True):
    """Put coins in or, below 0, take some out: all of the moves or none."""

    wire_name: ClassVar[str] = "purse.move.v1"
    purse_id: Id
    moves: tuple[int, ...]


class CoinsMoved(Event, frozen=True):
    """One move, and what was left after it."""

    wire_name: ClassVar[str] = "purse.moved.v1"
    purse_id: str
    coins: int
    left: int


class Purse(msgspec.Struct, frozen=True):
    """Every event counts: a state that lacks one is another."""

    left: int = 0
    moves: int = 0


def decide(purse: Purse, command: MoveCoins) -> Sequence[CoinsMoved] | Rejected:
    """One event for each move, but none where the coins do not suffice."""
    after = list(accumulate(command.moves, initial=purse.left))[1:]
    if any(left < 0 for left in after):
        return Rejected("purse_empty", "There are not so many coins")
    return [CoinsMoved(command.purse_id, coins, left) for coins, left in zip(command.moves, after, strict=True)]


def evolve(purse: Purse, event: CoinsMoved) -> Purse:
    """The purse after one move."""
    return Purse(purse.left + event.coins, purse.moves + 1)


PURSE = Aggregate(name="purse", initial=Purse(), decide=decide, evolve=evolve)
