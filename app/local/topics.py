"""Making the fleet's topics: those of the catalogue, with those of the generations of read models that stand."""

from __future__ import annotations

from app.catalogue import CATALOGUE, Catalogue
from app.runtime.generations import Generations
from app.runtime.kafka.admin import ensure_topics
from app.runtime.kafka.cluster import KafkaCluster
from app.runtime.kafka.topic_configs import Difference, differences
from app.runtime.settings import Settings
from app.runtime.topics import PROJECTIONS, Topic, Topics


async def make_topics(s: Settings, catalogue: Catalogue = CATALOGUE) -> list[str]:
    """Make the topics that are missing; their names. Generations that were let go of keep theirs deleted."""
    return (await _made(s, catalogue))[0]


async def make_and_check_topics(s: Settings, catalogue: Catalogue = CATALOGUE) -> tuple[list[str], list[Difference]]:
    """The same; and what of the topics is kept otherwise than it should be."""
    made, declared = await _made(s, catalogue)
    return made, await differences(s.brokers, declared, s.replication)


async def _made(s: Settings, catalogue: Catalogue) -> tuple[list[str], list[Topic]]:
    """What was made, and all that should be there."""
    topics = Topics(s.topic_prefix)
    first = Topic(topics.projections, PROJECTIONS.config, PROJECTIONS.partitions)
    made = await ensure_topics(s.brokers, [first], s.partitions, s.replication)
    generations = Generations(topics)
    await generations.load(KafkaCluster(s.brokers))
    declared = catalogue.topics(s, generations.standings)
    return made + await ensure_topics(s.brokers, declared, s.partitions, s.replication), declared
