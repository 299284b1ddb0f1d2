"""events ─▶ reacting ─▶ commands: a stateless step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from agents.ordering import InOrder, stream_of
from agents.sending import Cause, CommandTopics, Sending
from app.kernel import Command, Envelope, Reaction
from app.runtime.agent import Agent
from app.runtime.batch import Decode
from app.runtime.ports import Record
from app.runtime.unit import UnitOfWork
from tables.held import SEEN


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

    in_order = InOrder(decode)

    def fold(unit: UnitOfWork, record: Record, event: Envelope[Any]) -> None:
        for one in in_order.admit(unit, record, event):
            if isinstance(one.message, reaction.event):
                cause = Cause(one.id, one.time, one.correlation_id)
                for number, command in enumerate(reaction.commands(one.message)):
                    sending.send(unit, command, cause, number)

    return Agent(
        name=reacting_name(reaction),
        sources=(source,),
        decode=decode,
        fold=fold,
        tables=in_order.tables,
        ahead=SEEN,
        ahead_key=stream_of,
        emits=sending.topics,
        help=f"{source} → {reaction.name} → commands",
    )
