"""A town whose agent has bugs, release by release; its dead letters, and telling it to take them back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from app.kernel.errors import UndecodableMessage
from app.runtime.agent import Agent, redrivable
from app.runtime.dead_letters import Kind
from app.runtime.letter_box import LetterBox, LetterSequence
from app.runtime.parking import ALONE_ROWS, PARKED_ROWS
from app.runtime.ports import Record, TopicPartition
from app.runtime.redriving import Redriving
from app.runtime.table import Table
from app.runtime.topics import REDRIVE, Topic
from app.runtime.unit import UnitOfWork
from tests.property.lives import PARTITIONS, TOPICS, Town

IN, OUT = "in", "out"
NOTES: Table[list[str]] = Table("notes", list[str])


@dataclass
class Release:
    """What the code that runs now cannot do. A new release can."""

    bugs: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)


RELEASE = Release()


def decode(record: Record) -> str:
    text = (record.value or b"").decode()
    if text in RELEASE.unknown:
        raise UndecodableMessage(f"{text} is of no known type")
    return text


def note(unit: UnitOfWork, record: Record, text: str) -> None:
    key = record.key or b""
    unit.put(NOTES, key, [*(unit.get(NOTES, key) or []), text])
    unit.emit(OUT, key, text.encode(), headers=record.headers)
    if text in RELEASE.bugs:
        raise ZeroDivisionError(f"cannot note {text}")


NOTING = redrivable(Agent("noting", (IN,), decode, note, (NOTES,), ahead=NOTES, emits=(OUT,)), TOPICS.redrive)
LETTERS = [TopicPartition(TOPICS.dead_letters("noting"), number) for number in range(PARTITIONS)]


@contextmanager
def releases() -> Iterator[Release]:
    """A first release; what is changed here counts from the next fold on."""
    RELEASE.bugs, RELEASE.unknown = set(), set()
    yield RELEASE
    RELEASE.bugs, RELEASE.unknown = set(), set()


def town() -> Town:
    own = TOPICS.of_agent("noting", logged=True)
    return Town((NOTING,), [Topic(IN), Topic(OUT), Topic(TOPICS.redrive, REDRIVE), *own])


async def pending(made: Town) -> list[LetterSequence]:
    async with made.cluster.reader() as reader:
        box = LetterBox(reader, dict.fromkeys(LETTERS, "noting"))
        await box.read_on()
        return box.sequences()


async def tell(made: Town, kind: Kind, *, letters_max: int = 1_000) -> None:
    """What `fleet deadletters` writes, without waiting for the answer."""
    async with made.cluster.reader() as reader:
        box = LetterBox(reader, dict.fromkeys(LETTERS, "noting"))
        await box.read_on()
        told = [one._replace(letters=one.letters[:letters_max]) for one in box.sequences()]
        if told:
            await redriving(made, box).send(kind, told)


def redriving(made: Town, box: LetterBox) -> Redriving:
    return Redriving(made.cluster, made.cluster.clock, TOPICS, box, {"noting": True})


async def notes(made: Town) -> dict[str, list[str]]:
    """The rows by key; what was emitted is the same."""
    lived = await made.lived()
    made.stores.crash()
    kept = [row for rows in lived.rows.values() for row in rows.items()]
    rows = {key.removeprefix(NOTES.prefix).decode(): NOTES.decode(raw) for key, raw in kept}
    emitted: dict[str, list[str]] = {}
    for records in lived.records.values():
        for key, value in records:
            emitted.setdefault((key or b"").decode(), []).append((value or b"").decode())
    assert emitted == rows
    return rows


def left_in_rows(made: Town) -> list[bytes]:
    made.stores.crash()
    stores = [made.stores("noting", number) for number in range(PARTITIONS)]
    return [key for store in stores for table in (PARKED_ROWS, ALONE_ROWS) for key, _ in store.scan(table.prefix)]


def in_order(sent: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, text in sent:
        found.setdefault(key, []).append(text)
    return found


def as_records(sent: Sequence[tuple[str, str]]) -> list[tuple[str, bytes]]:
    return [(key, text.encode()) for key, text in sent]


async def live_on(made: Town, times: int = 30) -> None:
    for _ in range(times):
        await made.live()
