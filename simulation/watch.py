"""What is checked at every step, because it is cheap; and the list of everything that was found wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from app.runtime.ports import PartitionStore, Progress, TopicPartition
from app.runtime.shard import META_KEY, Meta
from app.runtime.simulated import SimulatedCluster
from app.runtime.simulated.log import PartitionLog
from app.runtime.topics import Topics
from tables.memory import MemoryStore

VIOLATIONS_MAX = 50


@dataclass(frozen=True)
class Violation:
    """A promise that was broken: which, and what was seen."""

    invariant: str
    seen: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.seen}"


@dataclass
class Watch:
    """Looks on. `logged` are the agents that have a changelog, each with its sources."""

    cluster: SimulatedCluster
    topics: Topics
    logged: dict[str, tuple[str, ...]] = field(default_factory=dict)
    unlogged: dict[str, str] = field(default_factory=dict)
    broken: list[Violation] = field(default_factory=list)

    def report(self, invariant: str, seen: str) -> None:
        """Note a violation."""
        violation = Violation(invariant, seen)
        if len(self.broken) < VIOLATIONS_MAX and violation not in self.broken:
            self.broken.append(violation)

    def log_of(self, agent: str, partition: int) -> PartitionLog | None:
        """The log that a store is made of."""
        topic = self.topics.changelog(agent) if agent in self.logged else self.unlogged[agent]
        return self.cluster.find(TopicPartition(topic, partition))

    def writes(self, agent: str, partition: int, progress: Progress) -> None:
        """A store is about to be written."""
        log = self.log_of(agent, partition)
        if log is None or self.cluster.ids_of([log.topic])[log.topic] != progress.log_id:
            return
        if progress.position > log.end:
            self.report("no row is newer than its log", f"{agent}/{partition} at {progress.position} of {log.end}")
        elif log.undecided_before(progress.position):
            self.report("no row is written before its transaction is committed", f"{agent}/{partition}")

    def told(self, agent: str, partition: int, store: PartitionStore, rows: Mapping[bytes, bytes | None]) -> None:
        """Others hear of rows: they must be there by now, and so be committed."""
        if any(store.get(key) != row for key, row in rows.items()):
            self.report("nobody hears of rows before they are written", f"{agent}/{partition}")

    def opened(self, agent: str, partition: int, store: MemoryStore) -> None:
        """A store was opened: its rows are those of its log, up to its progress."""
        progress, log = store.progress, self.log_of(agent, partition)
        if progress is None or log is None or agent not in self.logged:
            return
        if self.cluster.ids_of([log.topic])[log.topic] != progress.log_id:
            return  # it was deleted and made again: the opening will refuse
        # A restore from a compacted log that was broken off lacks what is overwritten further on.
        later = {record.key for record, _ in log.decided() if record.offset >= progress.position}
        found = {key: value for key, value in store.rows().items() if key not in later}
        wanted = {key: value for key, value in rows_of(log, progress.position).items() if key not in later}
        self.compare(f"the disk of {agent}/{partition}", found, wanted)

    def compare(self, where: str, found: dict[bytes, bytes], wanted: dict[bytes, bytes]) -> None:
        """Rows are as their log has them."""
        if found != wanted:
            keys = sorted(key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key))
            seen = f"{keys[0]!r} is {found.get(keys[0])!r:.120}, its log has {wanted.get(keys[0])!r:.120}"
            self.report("rows are those of their log", f"{where}: {len(keys)} rows differ: {seen}")

    def positions(self, agent: str, partition: int) -> dict[str, int]:
        """The newest source positions in a changelog."""
        log = self.cluster.find(TopicPartition(self.topics.changelog(agent), partition))
        raw = None if log is None else rows_of(log).get(META_KEY)
        return {} if raw is None else msgspec.msgpack.decode(raw, type=Meta).positions

    def check_changelogs(self) -> None:
        """Owners follow each other, and no position ever goes back."""
        for agent in self.logged:
            for log in self.cluster.logs_of(self.topics.changelog(agent)):
                self._check_changelog(agent, log)

    def _check_changelog(self, agent: str, log: PartitionLog) -> None:
        claim, positions, name = 0, dict[str, int](), f"{agent}/{log.partition}"
        for record, transaction in log.decided():
            if transaction is not None:
                if transaction.claim < claim:
                    self.report(
                        "one owner at a time commits",
                        f"{name}: {transaction.transactional_id} (start {transaction.claim}) at offset "
                        f"{record.offset}, after start {claim}",
                    )
                claim = max(claim, transaction.claim)
            if record.key == META_KEY and record.value is not None:
                meta = msgspec.msgpack.decode(record.value, type=Meta)
                for topic, position in meta.positions.items():
                    if position < positions.get(topic, 0):
                        seen = f"{name}: {topic} from {positions[topic]} to {position}"
                        self.report("source positions only grow", seen)
                    positions[topic] = position


def rows_of(log: PartitionLog, position: int | None = None) -> dict[bytes, bytes]:
    """The rows that a log's committed records lead to, up to a position, told by no code of the engine."""
    rows: dict[bytes, bytes] = {}
    for record, _ in log.decided():
        if position is not None and record.offset >= position:
            break
        if record.key is None:
            continue
        if record.value is None:
            rows.pop(record.key, None)
        else:
            rows[record.key] = record.value
    return rows
