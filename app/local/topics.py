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
    topics = Topics(s.topic_prefix)
    first = Topic(topics.projections, PROJECTIONS.config, PROJECTIONS.partitions)
    made = await ensure_topics(s.brokers, [first], s.partitions, s.replication)
    return made + await ensure_topics(s.brokers, await _declared(s, catalogue), s.partitions, s.replication)


async def check_topics(s: Settings, catalogue: Catalogue = CATALOGUE) -> list[Difference]:
    """What of the topics is kept otherwise than it should be."""
    return await differences(s.brokers, await _declared(s, catalogue), s.replication)


async def _declared(s: Settings, catalogue: Catalogue) -> list[Topic]:
    generations = Generations(Topics(s.topic_prefix))
    await generations.load(KafkaCluster(s.brokers))
    return catalogue.topics(s, generations.standings)
