"""events ─▶ reacting ─▶ commands: a stateless step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from agents.sending import Cause, CommandTopics, Sending
from app.kernel import Command, Envelope, Reaction
from app.runtime.agent import Agent
from app.runtime.batch import Decode
from app.runtime.ports import Record
from app.runtime.unit import UnitOfWork


def reacting_name(reaction: Reaction) -> str:
    """The agent's name."""
    return f"reacting-{reaction.name}"


def reacting(
    reaction: Reaction,
    *,
    source: str,
    decode: Decode,
    kinds: Iterable[type[Command]],
    partitions: int,
    target: CommandTopics,
) -> Agent:
    """The agent of one reaction. `source` is the topic of its events, `kinds` are the commands that it may send."""
    sending = Sending(f"reactions/{reaction.name}", kinds, partitions, target)

    def fold(unit: UnitOfWork, record: Record, event: Envelope[Any]) -> None:
        if isinstance(event.message, reaction.event):
            cause = Cause(event.id, event.time, event.correlation_id)
            for number, command in enumerate(reaction.commands(event.message)):
                sending.send(unit, command, cause, number)

    return Agent(
        name=reacting_name(reaction),
        sources=(source,),
        decode=decode,
        fold=fold,
        tables=(),
        emits=sending.topics,
        help=f"{source} → {reaction.name} → commands",
    )
