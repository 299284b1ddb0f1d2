"""Dead letters that come back, record by record: each in its turn, once, and only where it came from."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from app.runtime.agent import Agent, redrivable
from app.runtime.batch import Batch
from app.runtime.careful import EVENTS_FILLED, FILLS_FAILED
from app.runtime.dead_letters import Kind, Letter, Original, instruction, read_letter, read_settlement
from app.runtime.folded import Folded
from app.runtime.folding import fold_round
from app.runtime.parking import PARKED_ROWS, Parked
from app.runtime.ports import Progress, Record, TopicPartition
from app.runtime.shard import Shard
from app.runtime.simulated import SimulatedRecord
from app.runtime.table import Table
from app.runtime.unit import UnitOfWork
from tables.memory import MemoryStores

NOTES: Table[list[str]] = Table("notes", list[str])
DEAD, REDRIVE = "noting.deadletters", "fleet.redrive"
BUGS: set[str] = set()

Told = tuple[Letter, Original]


def note(unit: UnitOfWork, record: Record, text: str) -> None:
    if text in BUGS:
        raise ZeroDivisionError(text)
    key = record.key or b""
    unit.put(NOTES, key, [*(unit.get(NOTES, key) or []), text])


NOTING = redrivable(Agent("noting", ("in",), lambda record: (record.value or b"").decode(), note, (NOTES,)), REDRIVE)


class Desk:
    """The agent's shard, and what lies in its dead letters."""

    def __init__(self) -> None:
        self.shard = Shard(NOTING, 0, MemoryStores()("noting", 0))
        self.letters: list[Told] = []
        self.settled: list[str] = []
        self._ends = {"in": 0, REDRIVE: 0}

    def take(self, *texts: str) -> Folded:
        """Fold a round of records of the key `k`."""
        return self._fold("in", [(text.encode(), ()) for text in texts])

    def tell(self, *told: tuple[Kind, Told]) -> Folded:
        """Fold a round of instructions."""
        return self._fold(
            REDRIVE,
            [(original.value, instruction(kind, letter, original.headers)) for kind, (letter, original) in told],
        )

    def _fold(self, topic: str, given: Sequence[tuple[bytes | None, Sequence[tuple[str, bytes]]]]) -> Folded:
        start = self._ends[topic]
        records = [
            SimulatedRecord(topic, 0, offset, b"k", value, 1, tuple(headers))
            for offset, (value, headers) in enumerate(given, start)
        ]
        end = self._ends[topic] = start + len(records)
        batch = Batch(TopicPartition(topic, 0), records, 0, start, end)
        found = fold_round(self.shard, [(batch, start)], DEAD)
        self.shard.opened().write(dict(found.unit.changes()), Progress(end, "log", 1))
        self.shard.parked |= found.parked
        self.shard.parked -= found.unparked
        for one in found.unit.emitted:
            assert one.topic == DEAD
            record = SimulatedRecord(one.topic, 0, 0, one.key, one.value, 1, tuple(one.headers))
            if (settlement := read_settlement(record)) is not None:
                self.settled.append(settlement[0])
            elif (letter := read_letter(record)) is not None:
                self.letters.append(letter)
        return found

    @property
    def notes(self) -> list[str]:
        """What was noted of the key."""
        raw = self.shard.opened().get(NOTES.prefix + b"k")
        return [] if raw is None else NOTES.decode(raw)

    @property
    def parked(self) -> Parked | int | None:
        """The key's sequence."""
        raw = self.shard.opened().get(PARKED_ROWS.prefix + b"k")
        return None if raw is None else PARKED_ROWS.decode(raw)


@pytest.fixture
def desk() -> Desk:
    """A bug has parked three records of one key."""
    BUGS.clear()
    BUGS.add("bug")
    made = Desk()
    made.take("first", "bug", "second", "third")
    assert [letter.number for letter, _ in made.letters] == [1, 2, 3]
    return made


@pytest.mark.parametrize("kind", [Kind.FOLD, Kind.DISCARD])
def test_a_letter_whose_turn_it_is_not_stays(desk: Desk, kind: Kind) -> None:
    BUGS.clear()
    before = desk.parked
    desk.tell((kind, desk.letters[1]), (kind, desk.letters[2]))
    assert (desk.notes, desk.settled, desk.parked) == (["first"], [], before)


@pytest.mark.parametrize("kind", [Kind.FOLD, Kind.DISCARD])
def test_a_letter_of_another_agent_is_none_of_ours(desk: Desk, kind: Kind) -> None:
    BUGS.clear()
    letter, original = desk.letters[0]
    desk.tell((kind, (letter._replace(agent="noting-too"), original)))
    assert (desk.notes, desk.settled) == (["first"], [])
    desk.tell((Kind.DISCARD, desk.letters[0]), (kind, (desk.letters[1][0]._replace(agent="other"), original)))
    assert (desk.notes, desk.settled) == (["first"], [desk.letters[0][0].id])


@pytest.mark.parametrize("kind", [Kind.FOLD, Kind.DISCARD])
def test_an_attempt_that_was_made_already_is_not_made_again(desk: Desk, kind: Kind) -> None:
    desk.tell((Kind.FOLD, desk.letters[0]))
    again = desk.letters[-1]
    assert (again[0].number, again[0].attempt, again[0].sequence) == (1, 2, desk.letters[0][0].sequence)
    BUGS.clear()
    desk.tell((kind, desk.letters[0]))
    assert (desk.notes, desk.settled) == (["first"], [])
    desk.tell((Kind.FOLD, again), (Kind.FOLD, desk.letters[1]), (Kind.FOLD, desk.letters[2]))
    assert desk.notes == ["first", "bug", "second", "third"]
    assert (desk.parked, desk.shard.parked) == (None, set())


def test_a_letter_that_is_settled_is_not_folded_again(desk: Desk) -> None:
    BUGS.clear()
    desk.tell((Kind.FOLD, desk.letters[0]), (Kind.FOLD, desk.letters[0]))
    desk.tell((Kind.FOLD, desk.letters[0]), (Kind.DISCARD, desk.letters[0]))
    assert (desk.notes, desk.settled) == (["first", "bug"], [desk.letters[0][0].id])
    assert desk.shard.parked == {b"k"}


def test_what_fills_a_gap_overtakes_nothing_that_is_parked(desk: Desk) -> None:
    BUGS.clear()
    letter, original = desk.letters[0]
    filling = letter, original._replace(value=b"filled")
    found = desk.tell((Kind.FILL, filling))
    assert (desk.notes, found.unit.counts) == (["first"], {FILLS_FAILED: 1})
    desk.tell(*((Kind.DISCARD, one) for one in desk.letters))
    found = desk.tell((Kind.FILL, filling))
    assert (desk.notes, found.unit.counts) == (["first", "filled"], {EVENTS_FILLED: 1})
