"""events ─▶ routing ─▶ inbox ─▶ chaining ─▶ commands: the next step, its compensation, or a time-out.

A chain's instance lives in the partition of its home aggregate's id. Events of other aggregates lie elsewhere: a
routing agent takes them to the instance's partition. Time comes as records, too: ticks.

Of the home aggregate's streams every event comes: they are taken in order, each once. Of another aggregate's stream an
instance gets some events only, so that a gap could not be told from an event of another instance: the routing agent
keeps their order, and each instance remembers how far it has seen each stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec

from agents.ordering import DUPLICATES_DROPPED, InOrder, stream_of
from agents.routing import routing
from agents.sending import Cause, CommandTopics, Sending
from agents.ticks import Tick, decode_tick
from app.kernel import Aggregate, Chain, Command, Envelope, Step
from app.kernel.errors import ConfigurationRefused
from app.runtime.agent import Agent, Ticking
from app.runtime.batch import Decode
from app.runtime.codec import Codec
from app.runtime.ports import Record
from app.runtime.topics import Topics
from app.runtime.unit import UnitOfWork
from tables.chains import (
    STANDINGS,
    TIMERS,
    WAITING,
    Instance,
    instances_of,
    keep_standing,
    timer_key,
    timer_of,
)

S = TypeVar("S")

TIMERS_PER_TICK = 500


def chaining_name(chain: Chain[Any]) -> str:
    """The agent's name."""
    return f"chaining-{chain.name}"


def routing_to(chain: Chain[Any], topics: Topics, decoders: Mapping[str, Decode], partitions: int) -> Agent:
    """The agent that brings events of the followed aggregates to the partition of the instance they belong to."""
    categories = [aggregate.category for aggregate in chain.follows]

    def key(event: Envelope[Any]) -> str | None:
        return chain.instance(event.message)

    return routing(chain.name, categories, key, topics=topics, decoders=decoders, partitions=partitions)


def chaining(
    chain: Chain[Any], topics: Topics, decoders: Mapping[str, Decode], partitions: int, target: CommandTopics
) -> Agent:
    """The agent that runs a chain's instances. `decoders` are by category."""
    chainer = _Chainer(chain, partitions, target, decoders[chain.home.category])
    home, inbox, ticks = topics.events(chain.home.category), topics.inbox(chain.name), topics.ticks(chain.name)
    decode: dict[str, Decode] = {home: decoders[chain.home.category], ticks: decode_tick}
    sources: tuple[str, ...] = (home, ticks)
    if chain.follows:
        codec = Codec.of_events(*chain.follows)
        decode[inbox] = lambda record: codec.decode(record.value)
        sources = (home, inbox, ticks)
    return Agent(
        name=chaining_name(chain),
        sources=sources,
        decode=decode,
        fold=chainer.fold,
        tables=(chainer.instances, TIMERS, WAITING, STANDINGS, *chainer.in_order.tables),
        ahead=chainer.instances,
        emits=chainer.sending.topics,
        ticking=Ticking(ticks, TIMERS),
        help=f"{home} → {chain.name} → {', '.join(chainer.sending.topics)}",
    )


class _Chainer(Generic[S]):
    def __init__(self, chain: Chain[S], partitions: int, target: CommandTopics, decode_home: Decode) -> None:
        self.instances = instances_of(chain)
        kinds = [kind for aggregate in (chain.home, *chain.follows) for kind in aggregate.commands]
        self.sending = Sending(f"chains/{chain.name}", kinds, partitions, target)
        self.in_order = InOrder(decode_home)
        self._chain = chain
        self._home = tuple(chain.home.events)

    def fold(self, unit: UnitOfWork, record: Record, message: Envelope[Any] | Tick) -> None:
        """React to an event, or to the time."""
        if isinstance(message, Tick):
            self._tick(unit, message.time)
        elif isinstance(message.message, self._home):
            for event in self.in_order.admit(unit, record, message):
                self._event(unit, event)
        else:
            self._event(unit, message)

    def _event(self, unit: UnitOfWork, event: Envelope[Any]) -> None:
        id_ = self._chain.instance(event.message)
        if id_ is None:
            return
        before = unit.get(self.instances, id_.encode())
        stream, version = stream_of(event).decode(), event.version or 0
        if before is not None and version <= before.seen.get(stream, 0):
            unit.count(DUPLICATES_DROPPED)
            return
        step = self._chain.react(before.state if before else self._chain.initial, event)
        if before is None and step == Step(self._chain.initial):
            return  # the chain does not care for this one
        instance = before or Instance(self._chain.initial, event.time, correlation_id=event.correlation_id)
        instance = msgspec.structs.replace(instance, seen={**instance.seen, stream: version})
        self._take(unit, id_, instance, step, Cause(event.id, event.time))

    def _tick(self, unit: UnitOfWork, now: datetime) -> None:
        for key, _ in unit.scan_committed(TIMERS, None, TIMERS_PER_TICK):
            due, name, id_ = timer_of(key)
            if due > now:
                break
            unit.put(TIMERS, key, None)
            instance = unit.get(self.instances, id_.encode())
            if instance is None or name not in instance.timers or timer_key(instance.timers[name], name, id_) != key:
                continue  # it was cancelled, or set anew
            timers = {other: at for other, at in instance.timers.items() if other != name}
            instance = msgspec.structs.replace(instance, timers=timers)
            step = self._chain.time_out(instance.state, name)
            self._take(unit, id_, instance, step, Cause(f"{self._chain.name}:{id_}:{name}:{due.isoformat()}", due))

    def _take(self, unit: UnitOfWork, id_: str, instance: Instance[S], step: Step[S], cause: Cause) -> None:
        timers = dict(instance.timers)
        for name, after in step.timers.items():
            if name in timers:
                unit.put(TIMERS, timer_key(timers.pop(name), name, id_), None)
            if after is not None:
                timers[name] = cause.time + after
                unit.put(TIMERS, timer_key(timers[name], name, id_), timers[name])
        cause = msgspec.structs.replace(cause, correlation_id=instance.correlation_id)
        for number, command in enumerate(step.send):
            self.sending.send(unit, command, cause, number)
        standing = msgspec.structs.replace(
            instance,
            state=step.state,
            since=cause.time if step.waiting_for != instance.waiting_for else instance.since,
            waiting_for=step.waiting_for,
            finished=step.finished,
            timers=timers,
            counted=True,
        )
        keep_standing(unit, id_, instance, standing)
        unit.put(self.instances, id_.encode(), standing)


def command_topics(aggregates: tuple[Aggregate[Any, Any, Any], ...], topics: Topics) -> CommandTopics:
    """Where the commands of these aggregates go."""
    by_kind = {kind: topics.commands(aggregate.category) for aggregate in aggregates for kind in aggregate.commands}

    def target(kind: type[Command]) -> str:
        if kind not in by_kind:
            raise ConfigurationRefused(f"{kind.__name__} belongs to no aggregate of the catalogue: add its aggregate")
        return by_kind[kind]

    return target
