"""The catalogue: everything that the fleet runs, in one list. Add your own aggregate, chain or projection here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from agents.alerting import alerting
from agents.chaining import chaining, command_topics, routing_to
from agents.deciding import deciding
from agents.indexing import indexing
from agents.projecting import projecting
from agents.reacting import reacting
from agents.windowing import windowing
from app.chains.fulfilment import FULFILMENT
from app.domain.customer import CUSTOMER
from app.domain.inventory import INVENTORY
from app.domain.order import ORDER
from app.filters.high_value import HIGH_VALUE
from app.filters.vip import VIP
from app.kernel import Aggregate, Chain, Command, Envelope, Filter, Keyed, Projection, Reaction, Window
from app.kernel.errors import ConfigurationRefused, UndecodableMessage
from app.kernel.messages import first_word
from app.projections.customer_orders import CUSTOMER_ORDERS
from app.projections.customers import CUSTOMERS
from app.projections.orders import ORDERS
from app.projections.orders_by_day import ORDERS_BY_DAY
from app.runtime.agent import Agent, redrivable
from app.runtime.batch import Decode
from app.runtime.codec import Codec
from app.runtime.generations import AT_FIRST, FIRST, Standing, Standings
from app.runtime.ports import Record
from app.runtime.settings import Settings
from app.runtime.topics import A_WEEK, DIRECTORY, PROJECTIONS, REDRIVE, Topic, Topics, same_names
from app.windows.orders_last_minute import ORDERS_LAST_MINUTE
from app.windows.orders_per_minute import ORDERS_PER_MINUTE
from app.windows.payments_per_five_minutes import PAYMENTS_PER_FIVE_MINUTES
from app.windows.shopping_sprees import SHOPPING_SPREES

DECIDING, INDEXING, CHAINING = "deciding", "indexing", "chaining"
PROJECTING, WINDOWING, ALERTING = "projecting", "windowing", "alerting"

ROLES: dict[str, tuple[str, ...]] = {
    "all": (DECIDING, INDEXING, CHAINING, PROJECTING, WINDOWING, ALERTING),
    "commands": (DECIDING, INDEXING),
    "chains": (CHAINING,),
    "reads": (PROJECTING, WINDOWING, ALERTING),
}
"""Which kinds of agents run together: one Faust app, one consumer group, one workload. `all` is the local default."""

SPLIT = ("commands", "chains", "reads")
"""The roles that together do what `all` does."""


@dataclass(frozen=True)
class Catalogue:
    """Everything that is registered; and what follows from it: agents, topics, wire names."""

    aggregates: tuple[Aggregate[Any, Any, Any], ...]
    projections: tuple[Projection[Any], ...]
    chains: tuple[Chain[Any], ...] = ()
    reactions: tuple[Reaction, ...] = ()
    filters: tuple[Filter, ...] = ()
    windows: tuple[Window[Any], ...] = ()

    def __post_init__(self) -> None:
        _refuse_repeated("category", [aggregate.category for aggregate in self.aggregates])
        _refuse_repeated("projection", [projection.name for projection in self.projections])
        _refuse_repeated("reaction", [reaction.name for reaction in self.reactions])
        _refuse_repeated("filter", [filter_.name for filter_ in self.filters])
        _refuse_repeated("chain", [chain.name for chain in self.chains])
        _refuse_repeated("window", [window.name for window in self.windows])
        _refuse_repeated("inbox", self._inboxes())
        _refuse_repeated("command", [kind.__name__ for kind in self.commands()])
        _check_streams(self.aggregates)
        categories = {aggregate.category for aggregate in self.aggregates}
        for chain in self.chains:
            if unknown := sorted({a.category for a in (chain.home, *chain.follows)} - categories):
                raise ConfigurationRefused(f"chain {chain.name} follows {', '.join(unknown)}: add the aggregate")
        for projection in self.projections:
            if projection.category not in categories:
                raise ConfigurationRefused(
                    f"projection {projection.name} reads {projection.category}, which no aggregate writes: "
                    f"add the aggregate, or name one of {', '.join(sorted(categories))}"
                )
        for window in self.windows:
            if window.category not in categories:
                raise ConfigurationRefused(
                    f"window {window.name} counts {window.category}, which no aggregate writes: add the aggregate"
                )

    def _inboxes(self) -> list[str]:
        """The names of whatever events are routed to: each has agents and a topic of that name."""
        projections = [projection.name for projection in self.projections if projection.keyed is Keyed.BY_KEY]
        filters = [filter_.name for filter_ in self.filters if filter_.knows is not None]
        return [*projections, *filters, *(c.name for c in self.chains), *(w.name for w in self.windows)]

    def commands(self) -> list[type[Command]]:
        """Every command of every aggregate."""
        return [kind for aggregate in self.aggregates for kind in aggregate.commands]

    def agents(self, settings: Settings, standings: Standings = MappingProxyType({})) -> list[Agent]:
        """The agents of the role that the settings name, with those of every generation of a read model that stands."""
        if settings.role not in ROLES:
            raise ConfigurationRefused(f"FLEET_ROLE={settings.role} is no role: use one of {', '.join(ROLES)}")
        by_kind = self._by_kind(settings, standings)
        return [agent for kind in ROLES[settings.role] for agent in by_kind[kind]]

    def sources(self, settings: Settings) -> list[str]:
        """Every topic that the role may come to read, whichever generations of its read models there will be."""
        rebuilding = {projection.name: Standing(building=FIRST + 1) for projection in self.projections}
        return sorted({topic for agent in self.agents(settings, rebuilding) for topic in agent.sources})

    def projection(self, name: str) -> Projection[Any]:
        """The projection of that name."""
        found = next((projection for projection in self.projections if projection.name == name), None)
        if found is None:
            there = ", ".join(projection.name for projection in self.projections)
            raise ConfigurationRefused(f"there is no projection {name}: there are {there}")
        return found

    def topics_of_generation(self, settings: Settings, name: str, generation: int) -> list[Topic]:
        """The topics that one generation of a read model has for itself."""
        topics, projection = Topics(settings.topic_prefix), self.projection(name)
        decode = decoder_of(next(a for a in self.aggregates if a.category == projection.category))
        agents = projecting(projection, topics, decode, settings.partitions, Standing(live=generation))
        return [topic for agent in agents for topic in topics.of_agent(agent.name, logged=agent.logged)]

    def every_agent(self, settings: Settings, standings: Standings = MappingProxyType({})) -> list[Agent]:
        """The agents of all roles, with those of every generation of a read model that stands."""
        return [agent for agents in self._by_kind(settings, standings).values() for agent in agents]

    def topics(self, settings: Settings, standings: Standings = MappingProxyType({})) -> list[Topic]:
        """Every topic of the fleet, whatever the role."""
        topics = Topics(settings.topic_prefix)
        found = [topic for aggregate in self.aggregates for topic in topics.of_category(aggregate.category)]
        for chain in self.chains:
            found += topics.of_chain(chain.name)
        found += [Topic(topics.inbox(f.name), A_WEEK) for f in self.filters if f.knows is not None]
        rekeyed = [projection.name for projection in self.projections if projection.keyed is Keyed.BY_KEY]
        found += [Topic(inbox, A_WEEK) for name in rekeyed for inbox in topics.inboxes(name)]
        found += [topic for w in self.windows for topic in topics.of_window(w.name, ends=w.ends)]
        found += [Topic(topics.alerts, A_WEEK), *topics.of_bus()]
        for agent in self.every_agent(settings, standings):
            found += topics.of_agent(agent.name, logged=agent.logged)
        found.append(Topic(topics.redrive, REDRIVE))
        found += [Topic(topics.directory, DIRECTORY.config, DIRECTORY.partitions)]
        found += [Topic(topics.projections, PROJECTIONS.config, PROJECTIONS.partitions)]
        return same_names(found)

    def _by_kind(self, settings: Settings, standings: Standings) -> dict[str, list[Agent]]:
        redrive = Topics(settings.topic_prefix).redrive
        by_kind = self._agents_by_kind(settings, standings)
        return {kind: [redrivable(agent, redrive) for agent in agents] for kind, agents in by_kind.items()}

    def _agents_by_kind(self, settings: Settings, standings: Standings) -> dict[str, Sequence[Agent]]:
        topics = Topics(settings.topic_prefix)
        # One decode for each category: a batch is decoded once for all agents that read it.
        decode = {aggregate.category: decoder_of(aggregate) for aggregate in self.aggregates}
        return {
            DECIDING: [
                deciding(a, topics, partitions=settings.partitions, outcome_retention_s=settings.outcome_retention)
                for a in self.aggregates
            ],
            INDEXING: [indexing(a.category, topics, decode[a.category]) for a in self.aggregates],
            CHAINING: [
                *(agent for chain in self.chains for agent in self._of_chain(chain, topics, decode, settings)),
                *(self._of_reaction(reaction, topics, decode, settings) for reaction in self.reactions),
            ],
            ALERTING: [agent for f in self.filters for agent in alerting(f, topics, decode, settings.partitions)],
            PROJECTING: [
                agent
                for p in self.projections
                for agent in projecting(
                    p, topics, decode[p.category], settings.partitions, standings.get(p.name, AT_FIRST)
                )
            ],
            WINDOWING: [windowing(w, topics, decode[w.category], settings.partitions) for w in self.windows],
        }

    def _of_chain(
        self, chain: Chain[Any], topics: Topics, decode: dict[str, Decode], settings: Settings
    ) -> list[Agent]:
        target = command_topics(self.aggregates, topics)
        agents = [chaining(chain, topics, decode, settings.partitions, target)]
        return [routing_to(chain, topics, decode, settings.partitions), *agents] if chain.follows else agents

    def _of_reaction(self, reaction: Reaction, topics: Topics, decode: dict[str, Decode], settings: Settings) -> Agent:
        category = next((a.category for a in self.aggregates if reaction.event in a.events), None)
        if category is None:
            raise ConfigurationRefused(
                f"reaction {reaction.name} waits for {reaction.event.__name__}, which no aggregate decides: add it"
            )
        return reacting(
            reaction,
            source=topics.events(category),
            decode=decode[category],
            kinds=self.commands(),
            partitions=settings.partitions,
            target=command_topics(self.aggregates, topics),
        )


def decoder_of(aggregate: Aggregate[Any, Any, Any]) -> Decode:
    """From a record of the category's events topic to the event's envelope; it must say its place in its stream."""
    decode = Codec.of_events(aggregate).decode

    def decode_event(record: Record) -> Envelope[Any]:
        event = decode(record.value)
        if not event.version or event.version < 1:
            raise UndecodableMessage("an event needs its version: its place in its stream, from 1 on")
        return event

    return decode_event


def _check_streams(aggregates: Sequence[Aggregate[Any, Any, Any]]) -> None:
    """Streams are named after the first word of their events' names: no two aggregates may share one."""
    owners: dict[str, str] = {}
    for aggregate in aggregates:
        for kind in aggregate.events:
            owner = owners.setdefault(first_word(kind.wire_name), aggregate.name)
            if owner != aggregate.name:
                raise ConfigurationRefused(
                    f"{kind.wire_name} of {aggregate.name} begins with a word that events of {owner} begin with: "
                    "streams are named after it; give the events of each aggregate a first word of their own"
                )


def _refuse_repeated(what: str, names: Sequence[str]) -> None:
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigurationRefused(f"the catalogue has a {what} twice: {', '.join(repeated)}; rename one")


CATALOGUE = Catalogue(
    aggregates=(ORDER, INVENTORY, CUSTOMER),
    projections=(ORDERS, ORDERS_BY_DAY, CUSTOMERS, CUSTOMER_ORDERS),
    chains=(FULFILMENT,),
    filters=(HIGH_VALUE, VIP),
    windows=(ORDERS_LAST_MINUTE, ORDERS_PER_MINUTE, PAYMENTS_PER_FIVE_MINUTES, SHOPPING_SPREES),
)
