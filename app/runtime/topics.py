"""Which topics there are, what they are called, and how they are kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Topic:
    """One topic. `partitions` of 0 stands for the fleet's own number; `config` is the broker's topic configuration.

    `about` says what it is for, where its name's last word does not: see `app/schema/topics.py`.
    """

    name: str
    config: dict[str, str] = field(default_factory=dict, hash=False)
    partitions: int = 0
    about: str = ""


FOR_EVER = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
A_WEEK = {"cleanup.policy": "delete", "retention.ms": str(7 * 86_400_000)}
BY_THE_BROKERS_CLOCK = {"message.timestamp.type": "LogAppendTime"}
"""A record's timestamp is not its sender's: no clock that is ahead can make it newer than it is."""
AN_HOUR = {"cleanup.policy": "delete", "retention.ms": str(3_600_000), "segment.ms": str(600_000)}
DEAD = FOR_EVER | {"max.message.bytes": str(3 << 20)}
"""A record as large as any that a source topic takes must fit in, with its cause beside it."""
REDRIVE = A_WEEK | {"max.message.bytes": DEAD["max.message.bytes"]}
COMPACTED = {"cleanup.policy": "compact", "delete.retention.ms": str(86_400_000), "segment.bytes": str(64 << 20)}
CHANGELOG_DELETE_RETENTION_S = 86_400.0
"""A local store older than this may have missed a tombstone: it is rebuilt."""

DIRECTORY = Topic("fleet.directory", COMPACTED, partitions=1)
"""Who serves what: `role/bucket` → the owner's address, written by each pipeline as it opens."""


PROJECTIONS = Topic("fleet.projections", COMPACTED, partitions=1)
"""Which generation of each read model is read, and which is being built: projection → its standing."""


@dataclass(frozen=True)
class Topics:
    """The names of the fleet's topics, with the fleet's prefix."""

    prefix: str = ""

    def commands(self, category: str) -> str:
        """Wishes for one kind of aggregate, keyed by aggregate id."""
        return f"{self.prefix}{category}.commands"

    def events(self, category: str) -> str:
        """The event store of one kind of aggregate, keyed by aggregate id, kept for ever."""
        return f"{self.prefix}{category}.events"

    def outcomes(self, category: str) -> str:
        """What became of each command, keyed by aggregate id."""
        return f"{self.prefix}{category}.outcomes"

    def changelog(self, agent: str) -> str:
        """All rows of one agent: compacted."""
        return f"{self.prefix}{agent}.changelog"

    def dead_letters(self, agent: str) -> str:
        """What one agent could not handle, whole, with the cause in the headers."""
        return f"{self.prefix}{agent}.deadletters"

    def inbox(self, name: str) -> str:
        """Events that were brought to the partitions of other keys: chains' instances, re-keyed read models."""
        return f"{self.prefix}{name}.inbox"

    def inboxes(self, name: str) -> tuple[str, str]:
        """The two inboxes of a re-keyed read model: its generations take turns, so that one is built beside another."""
        return self.inbox(name), self.inbox(f"{name}.even")

    def ticks(self, chain: str) -> str:
        """The time, told to the partitions of a chain or a window."""
        return f"{self.prefix}{chain}.ticks"

    def finals(self, window: str) -> str:
        """A window's final figures, each once."""
        return f"{self.prefix}{window}.finals"

    def late(self, window: str) -> str:
        """Events that came after their window had closed, whole."""
        return f"{self.prefix}{window}.late"

    @property
    def redrive(self) -> str:
        """What comes back from the dead letters, to the partition where it failed: every logged agent reads it."""
        return f"{self.prefix}fleet.redrive"

    @property
    def alerts(self) -> str:
        """What filters have picked: thin events, keyed by the stream that they are about."""
        return f"{self.prefix}fleet.alerts"

    @property
    def notifications(self) -> str:
        """The bus, where it is on Kafka: thin events for whoever wants to know of changes."""
        return f"{self.prefix}fleet.notifications"

    @property
    def directory(self) -> str:
        """See `DIRECTORY`."""
        return f"{self.prefix}{DIRECTORY.name}"

    @property
    def projections(self) -> str:
        """See `PROJECTIONS`."""
        return f"{self.prefix}{PROJECTIONS.name}"

    def of_category(self, category: str) -> list[Topic]:
        """The topics of one kind of aggregate."""
        return [
            Topic(self.commands(category), A_WEEK | BY_THE_BROKERS_CLOCK),
            Topic(self.events(category), FOR_EVER | BY_THE_BROKERS_CLOCK),
            Topic(self.outcomes(category), A_WEEK),
        ]

    def of_chain(self, chain: str) -> list[Topic]:
        """The topics between a chain's agents."""
        return [Topic(self.inbox(chain), A_WEEK), Topic(self.ticks(chain), A_WEEK)]

    def of_bus(self) -> list[Topic]:
        """The topics of the bus."""
        return [Topic(self.notifications, AN_HOUR), Topic(self.dead_letters("fleet.notifications"), DEAD)]

    def of_window(self, window: str, *, ends: bool) -> list[Topic]:
        """The topics between a window's partitions, and what comes out; one that slides never ends."""
        about = f"What the partitions hand over, tell and ask each other of {window}. Between agents of the fleet."
        between = [
            Topic(self.inbox(window), A_WEEK, about=about),
            Topic(self.ticks(window), A_WEEK | BY_THE_BROKERS_CLOCK),
        ]
        finals = [Topic(self.finals(window), FOR_EVER)] if ends else []
        return [*between, *finals, Topic(self.late(window), FOR_EVER)]

    def of_agent(self, agent: str, *, logged: bool) -> list[Topic]:
        """The topics that one agent owns."""
        own = [Topic(self.dead_letters(agent), DEAD)]
        return [Topic(self.changelog(agent), COMPACTED), *own] if logged else own


def partition_of(key: str | bytes, partitions: int) -> int:
    """The partition of a key, as Kafka's own default partitioner puts it: murmur2, positive, modulo."""
    raw = key.encode() if isinstance(key, str) else key
    return (_murmur2(raw) & 0x7FFFFFFF) % partitions


def _murmur2(data: bytes) -> int:
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    length = len(data)
    h = (0x9747B28C ^ length) & mask
    for i in range(0, length & ~3, 4):
        k = int.from_bytes(data[i : i + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = (h * m & mask) ^ k
    tail = data[length & ~3 :]
    if tail:
        h = (h ^ int.from_bytes(tail, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


def same_names(topics: Iterable[Topic]) -> list[Topic]:
    """`topics` without repetitions, in order."""
    return list({topic.name: topic for topic in topics}.values())
