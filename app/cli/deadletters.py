"""`fleet deadletters`: see what agents could not handle, bring it back when the code can, or give it up."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
from aiokafka.errors import KafkaError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.cli.where import brokers_here
from app.kernel.errors import BrokerUnavailable
from app.runtime.clock import SystemClock
from app.runtime.dead_letters import ALONE, Kind, Original
from app.runtime.kafka.admin import list_topics
from app.runtime.kafka.cluster import KafkaCluster
from app.runtime.letter_box import LetterBox, LetterSequence, Pending
from app.runtime.ports import TopicPartition
from app.runtime.redriving import Became, Redriving
from app.runtime.settings import load_settings
from app.runtime.topics import Topics

VALUE_CHARS_MAX = 4_000
WAIT_S = 30.0
T = TypeVar("T")


@dataclass(frozen=True)
class Choice:
    """Which sequences a command is about."""

    agent: str | None
    key: str | None

    def of(self, box: LetterBox) -> list[LetterSequence]:
        """Those that lie there now."""
        return box.sequences(agent=self.agent, key=None if self.key is None else self.key.encode())


def choosing(command: Callable[..., None]) -> Callable[..., None]:
    """The options by which sequences are chosen."""
    agent = click.option("--agent", help="Only of this agent, such as projecting-orders.")
    key = click.option("--key", help="Only of this key: an aggregate's id, mostly.")
    return agent(key(command))


waiting = click.option(
    "--wait",
    default=WAIT_S,
    show_default=True,
    type=click.FloatRange(0, 3_600),
    help="Seconds that the workers are given to answer.",
)
everything = click.option("--all", "all_", is_flag=True, help="All of them, whatever agent and key.")


@click.group()
def deadletters() -> None:
    """See what agents could not handle; bring it back, in order, when the code can handle it; or give it up."""


@deadletters.command(name="list")
@choosing
@click.option("--json", "as_json", is_flag=True, help="As JSON, one object a line.")
def list_(agent: str | None, key: str | None, as_json: bool) -> None:
    """List what lies there: one line for each key whose records wait for one another."""

    async def read(post: Post) -> tuple[list[LetterSequence], int]:
        return Choice(agent, key).of(post.box), post.box.unreadable

    sequences, others = _with_post(read)
    if as_json:
        for one in sequences:
            click.echo(json.dumps(_as_json(one)))
    elif sequences:
        Console().print(_table(sequences))
    else:
        click.echo("Nothing lies in the dead letters.")
    if others:
        click.echo(f"{others} records of another form (the bus's, or an older release's) lie beside them.", err=True)


@deadletters.command()
@choosing
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1_000), help="Letters of each sequence.")
def show(agent: str | None, key: str | None, limit: int) -> None:
    """Show the records themselves: where they came from, why they lie there, and what is in them."""

    async def read(post: Post) -> list[tuple[Pending, Original]]:
        found: list[tuple[Pending, Original]] = []
        for one in Choice(agent, key).of(post.box):
            letters = one.letters[:limit]
            originals = await post.box.originals(one.partition, letters)
            found += [(letter, originals[letter.letter.id]) for letter in letters if letter.letter.id in originals]
        return found

    for letter, original in _with_post(read):
        click.echo(_in_full(letter, original))


@deadletters.command()
@choosing
@everything
@waiting
def redrive(agent: str | None, key: str | None, all_: bool, wait: float) -> None:
    """Let the agents fold the records again, each key's in order, and wait for what becomes of them.

    The first one that fails again stops its sequence and keeps its place; other sequences go on. The exit code is 0
    where nothing that was chosen is left.
    """
    _do(Kind.FOLD, Choice(agent, key), all_=all_, wait=wait)


@deadletters.command()
@choosing
@everything
@waiting
@click.option("--first", is_flag=True, help="Of each sequence only the first record: what waited for it may go on.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def discard(*, agent: str | None, key: str | None, all_: bool, wait: float, first: bool, yes: bool) -> None:
    """Give the records up: they will never be folded by that agent. They stay in the topic, and in their source."""

    def confirmed(sequences: Sequence[LetterSequence]) -> bool:
        number = sum(1 if first else len(one.letters) for one in sequences)
        return yes or click.confirm(f"Give up {number} records of {len(sequences)} sequences?")

    _do(Kind.DISCARD, Choice(agent, key), all_=all_, wait=wait, only_first=first, confirmed=confirmed)


def _do(
    kind: Kind,
    choice: Choice,
    *,
    all_: bool,
    wait: float,
    only_first: bool = False,
    confirmed: Callable[[Sequence[LetterSequence]], bool] = lambda sequences: True,
) -> None:
    if not all_ and choice == Choice(None, None):
        raise click.UsageError("say which: --agent, --key, or --all")

    async def do(post: Post) -> list[Became]:
        chosen = choice.of(post.box)
        for one in chosen if kind is Kind.FOLD else []:
            if not post.redriving.logged[one.agent]:
                click.echo(f"{one.agent} has no changelog: its store is rebuilt from its source. Discard its letters.")
        chosen = [one for one in chosen if kind is Kind.DISCARD or post.redriving.logged[one.agent]]
        if not chosen or not confirmed(chosen):
            return []
        return await post.redriving.run(kind, chosen, wait, only_first=only_first)

    became = _with_post(do)
    if not became:
        click.echo("Nothing was done.")
    for one in became:
        click.echo(_told(one, "discarded" if kind is Kind.DISCARD else "redriven"))
    sys.exit(int(any(not one.goes_on or (one.left and not only_first) for one in became)))


@dataclass(frozen=True)
class Post:
    """The dead letters of a fleet, read to their present end, and the way back from there."""

    box: LetterBox
    redriving: Redriving


def _with_post(act: Callable[[Post], Coroutine[Any, Any, T]]) -> T:
    async def run() -> T:
        async with _post(brokers_here(), Topics(load_settings().topic_prefix)) as post:
            return await act(post)

    try:
        return asyncio.run(run())
    except KafkaError as error:
        raise BrokerUnavailable(f"the brokers did not answer as they should: {error!r}") from error


@asynccontextmanager
async def _post(brokers: str, topics: Topics) -> AsyncIterator[Post]:
    """What agents there are is asked of the brokers: letters of one that was removed still lie there."""
    there = await list_topics(brokers)
    suffix = topics.dead_letters("").removeprefix(topics.prefix)
    agents = [
        name.removeprefix(topics.prefix).removesuffix(suffix)
        for name in there
        if name.startswith(topics.prefix) and name.endswith(suffix)
    ]
    names = {agent: topics.dead_letters(agent) for agent in sorted(agents)}
    partitions = {TopicPartition(name, n): agent for agent, name in names.items() for n in range(there[name])}
    logged = {agent: topics.changelog(agent) in there for agent in names}
    cluster = KafkaCluster(brokers)
    async with cluster.reader() as reader:
        box = LetterBox(reader, partitions)
        await box.read_on()
        yield Post(box, Redriving(cluster, SystemClock(), topics, box, logged))


def _table(sequences: Sequence[LetterSequence]) -> Table:
    table = Table("agent", "key", "records", "cause", "since", "first error")
    for one in sequences:
        first = one.letters[0]
        tries = f" (try {first.letter.attempt})" if first.letter.attempt > 1 else ""
        table.add_row(
            Text(one.agent),
            Text(_key(one.key)),
            Text(str(len(one.letters)), justify="right"),
            Text(first.letter.cause + tries),
            Text(_time(first.since_ms)),
            Text(first.letter.detail),
        )
    return table


def _as_json(sequence: LetterSequence) -> dict[str, Any]:
    first = sequence.letters[0]
    return {
        "agent": sequence.agent,
        "key": _key(sequence.key),
        "partition": sequence.partition.partition,
        "records": len(sequence.letters),
        "alone": first.letter.number == ALONE,
        "cause": first.letter.cause,
        "attempts": first.letter.attempt,
        "since": _time(first.since_ms),
        "first_error": first.letter.detail,
    }


def _in_full(pending: Pending, original: Original) -> str:
    letter = pending.letter
    value = (original.value or b"").decode(errors="backslashreplace")
    cut = f" … ({len(value)} characters)" if len(value) > VALUE_CHARS_MAX else ""
    return (
        f"{letter.agent}  key {_key(pending.key)}  letter {letter.id}  attempt {letter.attempt}\n"
        f"  {letter.cause}: {letter.detail}\n"
        f"  from {letter.topic}/{letter.partition}@{letter.offset}, {_time(letter.timestamp_ms)}\n"
        f"  {value[:VALUE_CHARS_MAX]}{cut}\n"
    )


def _told(became: Became, done: str) -> str:
    sequence = became.sequence
    line = f"{sequence.agent}  {_key(sequence.key)}: {became.settled} {done}"
    if became.failed is not None:
        line += f", {became.left} left; it failed again: {became.failed.cause}: {became.failed.detail}"
    elif not became.answered:
        line += f", {became.left} left; nobody has answered: is a worker up that runs {sequence.agent}?"
    elif became.left:
        line += f", {became.left} left"
    return line


def _key(key: bytes | None) -> str:
    return "-" if key is None else key.decode(errors="backslashreplace")


def _time(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%dT%H:%M:%S}Z"
