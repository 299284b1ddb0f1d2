"""Every topic of the catalogue in words, with the messages that lie in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from agents.alerting import ALERT_TYPE, Alert
from app.catalogue import Catalogue
from app.kernel import Message, Outcome
from app.kernel.errors import ConfigurationRefused
from app.runtime.codec import ACCEPTED, REJECTED, Codec
from app.runtime.settings import Settings
from app.runtime.topics import Topic, Topics
from tables.windows import final_name, told_type

Types = Mapping[str, type[msgspec.Struct]]
"""The types of data by wire name."""

OUTCOMES: Types = {ACCEPTED: Outcome, REJECTED: Outcome}
ALERTS: Types = {ALERT_TYPE: Alert}

ABOUT = {
    "commands": "Wishes for {owner}, keyed by the aggregate's id. Other services may produce them, too.",
    "events": "The event store of {owner}: every fact, keyed by the aggregate's id, kept for ever.",
    "outcomes": "What became of each command for {owner}, once, keyed by the aggregate's id.",
    "inbox": "Events that {owner} needs, brought to the partition of its own key. Between agents of the fleet.",
    "ticks": "The time, told to the partitions of {owner}. Between agents of the fleet.",
    "changelog": "All rows of the agent {owner}, compacted: `<table>` NUL `<key>` → MessagePack.",
    "deadletters": "What the agent {owner} could not handle: the record as it was, cause and origin in its headers.",
    "finals": "The final value of each window of {owner}, once, when no more can come.",
    "late": "Events that came too late for their window of {owner}.",
    "fleet.alerts": "Thin events: which filter has picked which event. Whoever is told asks the views for more.",
    "fleet.directory": "Who serves what: `role/bucket` → the owner's address, compacted.",
    "fleet.notifications": "The bus, where it is on Kafka: thin events, whoever hears them asks the views.",
    "fleet.projections": "Which generation of each read model is read, which is being built: by its name, compacted.",
    "fleet.redrive": "Dead letters on their way back to the agents that could not handle them.",
}
"""By the topic's name without the prefix, or by its last word."""


@dataclass(frozen=True)
class DescribedTopic:
    """One topic for people and programs. `types` are the CloudEvents in it; without any it has another form."""

    topic: Topic
    name: str
    about: str
    types: Types = field(default_factory=dict)


def describe(catalogue: Catalogue, settings: Settings) -> list[DescribedTopic]:
    """Every topic of the fleet, in the catalogue's order."""
    types = _types(catalogue)
    described = []
    for topic in catalogue.topics(settings):
        name = topic.name.removeprefix(settings.topic_prefix)
        carried = types.get(name, {})
        described.append(DescribedTopic(topic, name, _about(topic, name) + _older(catalogue, carried), carried))
    return described


def types_of(described: Iterable[DescribedTopic]) -> Types:
    """All types that lie in some topics, by wire name."""
    return {name: kind for topic in described for name, kind in topic.types.items()}


def _about(topic: Topic, name: str) -> str:
    owner, _, word = name.rpartition(".")
    about = topic.about or ABOUT.get(name) or ABOUT.get(word, "").format(owner=owner)
    if not about:
        raise ConfigurationRefused(f"nothing says what the topic {name} is for: give its Topic an `about`")
    return about


def _older(catalogue: Catalogue, carried: Types) -> str:
    """A log keeps what was written: its readers must know the old versions, too."""
    codecs = [of(aggregate) for aggregate in catalogue.aggregates for of in (Codec.of_commands, Codec.of_events)]
    old = [name for codec in codecs for name, upcast in codec.upcast.items() if upcast.kind.wire_name in carried]
    return f" Records of older versions lie there as well: {', '.join(old)}." if old else ""


def _types(catalogue: Catalogue) -> dict[str, Types]:
    found: dict[str, Types] = {"fleet.alerts": ALERTS}
    for aggregate in catalogue.aggregates:
        found[f"{aggregate.category}.commands"] = _by_name(aggregate.commands)
        found[f"{aggregate.category}.events"] = _by_name(aggregate.events)
        found[f"{aggregate.category}.outcomes"] = OUTCOMES
    for chain in catalogue.chains:
        found[f"{chain.name}.inbox"] = _by_name(kind for followed in chain.follows for kind in followed.events)
    events = {aggregate.category: aggregate.events for aggregate in catalogue.aggregates}
    for projection in catalogue.projections:
        for inbox in Topics().inboxes(projection.name):
            found[inbox] = _by_name(events[projection.category])
    for filter_ in catalogue.filters:
        found[f"{filter_.name}.inbox"] = _by_name([filter_.event])
    for window in catalogue.windows:
        found[f"{window.name}.late"] = _by_name(window.events)
        if window.ends:
            found[f"{window.name}.finals"] = {final_name(window): told_type(window)}
    return found


def _by_name(kinds: Iterable[type[Message]]) -> Types:
    return {kind.wire_name: kind for kind in kinds}
