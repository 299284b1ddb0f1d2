"""What must be true in the end, told from the raw records of the topics by rules of its own, and from fresh stores."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from app.kernel import Aggregate
from app.runtime.agent import Agent
from app.runtime.codec import Codec
from app.runtime.ports import TopicPartition
from app.runtime.shard import RESERVED_PREFIX
from app.runtime.topics import partition_of
from simulation.auditing import check_audit
from simulation.faults import Kind
from simulation.reading import decided_of, events_of, messages_of, records_of, rows_in
from simulation.refold import Refolded, dead_of, refold
from simulation.shop import check_alerts, check_fulfilment, check_stock, check_windows
from simulation.watch import rows_of
from simulation.witnesses import SEEN, Tally, heard_next
from simulation.workload import GARBAGE
from tables.memory import MemoryStore
from tables.snapshots import Snapshot, snapshots_of

if TYPE_CHECKING:
    from simulation.fleet import Fleet

STATUS = {
    "created": "created",
    "payment-processed": "paid",
    "shipped": "shipped",
    "delivered": "delivered",
    "cancelled": "cancelled",
}
NAMESPACE = uuid.UUID("5a0f6f5e-6d2c-5a55-9d8e-0d4d3f0b7c11")
COMMANDS_PER_CAUSE_MAX = 10
SKEW_MS, SKEW_MS_MAX = 15_000, 300_000
"""How far clients and machines are ahead of time, and how far machines are whose clocks jump."""


def check_everything(fleet: Fleet) -> None:
    """Look at all topics, and at the stores of fresh workers and of those before them."""
    fleet.watch.check_changelogs()
    Stores(fleet).check()
    for aggregate in fleet.aggregates:
        Commands(fleet, aggregate.category).check()
        check_snapshots(fleet, aggregate)
    check_orders(fleet)
    check_heard(fleet)
    if fleet.scene.shop:
        check_stock(fleet)
        check_fulfilment(fleet)
        check_alerts(fleet)
        check_windows(fleet)
        check_audit(fleet)


class Stores:
    """Every store is what its log says; every agent with one source is what its source says."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._watch = fleet.watch
        self._emitters = Counter(topic for agent in fleet.agents for topic in agent.emits)
        self._wanted: dict[tuple[str, int], list[tuple[bytes | None, bytes | None]]] = {}

    def check(self) -> None:
        """All of it."""
        fleet = self._fleet
        for _, stores in fleet.old_stores:
            for (name, number), old in stores.items():
                self._watch.opened(name, number, old)
        fresh = {key: store for worker in fleet.workers for key, store in worker.stores.items()}
        for agent in fleet.agents:
            for partition in range(fleet.scene.partitions):
                store = fresh.get((agent.name, partition))
                if store is None:
                    self._watch.report("a fresh process sees the same rows", f"{agent.name}/{partition} was not opened")
                else:
                    self._check_agent(agent, partition, store)
        self._check_emitted()

    def _check_agent(self, agent: Agent, partition: int, store: MemoryStore) -> None:
        fleet, name = self._fleet, f"{agent.name}/{partition}"
        if agent.logged:
            log = fleet.cluster.log(TopicPartition(fleet.topics.changelog(agent.name), partition))
            self._watch.compare(f"a fresh {name}", store.rows(), rows_of(log))
        if len(agent.sources) > 1:
            return
        source = fleet.cluster.log(TopicPartition(agent.sources[0], partition))
        wanted = refold(agent, partition, [record for record, _ in source.decided()])
        rows = {key: row for key, row in store.rows().items() if not key.startswith(RESERVED_PREFIX)}
        if rows != wanted.rows:
            keys = sorted(key for key in rows.keys() | wanted.rows.keys() if rows.get(key) != wanted.rows.get(key))
            seen = f"{keys[0]!r}: {rows.get(keys[0])!r:.200}, folding anew leads to {wanted.rows.get(keys[0])!r:.200}"
            self._watch.report("rows are the fold of their source", f"{name}: {len(keys)} rows differ: {seen}")
        self._note(wanted)
        if agent.logged:
            self._check_dead(agent, partition, wanted)

    def _note(self, wanted: Refolded) -> None:
        for topic, number, key, value, _ in wanted.emitted:
            self._wanted.setdefault((topic, number), []).append((key, value))

    def _check_dead(self, agent: Agent, partition: int, wanted: Refolded) -> None:
        log = self._fleet.cluster.log(TopicPartition(self._fleet.topics.dead_letters(agent.name), partition))
        found = dead_of([record for record, _ in log.decided()])
        if found != wanted.dead:
            seen = f"{agent.name}/{partition}: {found}, not {wanted.dead}"
            self._watch.report("what cannot be handled is a dead letter, once, in order", seen)

    def _check_emitted(self) -> None:
        """Topics that one agent with one source writes hold what folding that source anew leads to, once each."""
        fleet = self._fleet
        multiple = {topic for agent in fleet.agents if len(agent.sources) > 1 for topic in agent.emits}
        for topic, emitters in self._emitters.items():
            if emitters > 1 or topic in multiple or topic.endswith(".commands"):
                continue
            for log in fleet.cluster.logs_of(topic):
                # What other systems write there is outside of any transaction.
                found = [(record.key, record.value) for record, transaction in log.decided() if transaction]
                wanted = self._wanted.get((topic, log.partition), [])
                if sorted(map(repr, found)) != sorted(map(repr, wanted)) or (
                    topic.endswith((".events", ".outcomes", ".out")) and found != wanted
                ):
                    difference = Counter(map(repr, found))
                    difference.subtract(Counter(map(repr, wanted)))
                    seen = {one[:120]: count for one, count in difference.items() if count} or "another order"
                    self._watch.report("derived records are there once", f"{topic}/{log.partition}: {seen}")


class Commands:
    """Every command has one outcome, and the events are those that the outcomes tell of."""

    def __init__(self, fleet: Fleet, category: str) -> None:
        self._fleet = fleet
        self._category = category
        self._events = decided_of(fleet, category)
        self._outcomes = [message["data"] for message in messages_of(fleet, fleet.topics.outcomes(category))]

    def check(self) -> None:
        """All of it."""
        self._check_streams()
        self._check_outcomes()

    def _report(self, invariant: str, seen: str) -> None:
        self._fleet.watch.report(invariant, f"{self._category}: {seen}")

    def _check_streams(self) -> None:
        versions: Counter[str] = Counter()
        ids: set[str] = set()
        for event in self._events:
            versions[event["subject"]] += 1
            if event["version"] != versions[event["subject"]]:
                wanted = versions[event["subject"]]
                self._report("versions are contiguous", f"{event['id']} is {event['version']}, not {wanted}")
            if event["id"] in ids:
                self._report("ids are unique", event["id"])
            ids.add(event["id"])

    def _check_outcomes(self) -> None:
        wanted = self._sent()
        found = Counter(outcome["command_id"] for outcome in self._outcomes)
        for id_ in sorted(wanted.keys() - found.keys()):
            self._report("every command has an outcome", id_)
        for id_ in sorted(found.keys() - wanted.keys()):
            self._report("every outcome has a command", id_)
        for id_, count in found.items():
            if count > 1:
                self._report("a command has one outcome", f"{id_} has {count}")
        events = {event["id"]: event for event in self._events}
        told = Counter(id_ for outcome in self._outcomes for id_ in outcome.get("events", ()))
        for id_ in events.keys() ^ told.keys():
            self._report("events are those that outcomes tell of", id_)
        for outcome in self._outcomes:
            self._check_outcome(outcome, wanted.get(outcome["command_id"], {}), events)

    def _check_outcome(self, outcome: dict[str, Any], command: dict[str, Any], events: dict[str, Any]) -> None:
        own = [events[id_] for id_ in outcome.get("events", ()) if id_ in events]
        if outcome.get("rejected") and own:
            self._report("a refusal has no events", outcome["command_id"])
        if own and own[-1]["version"] != outcome["version"]:
            self._report("an outcome tells the version after it", outcome["command_id"])
        if any(event.get("causationid") != outcome["command_id"] for event in own):
            self._report("events tell their command", outcome["command_id"])
        expected = command.get("version")
        if expected is not None and not outcome.get("rejected") and outcome["version"] - len(own) != expected:
            seen = f"{outcome['command_id']} expected {expected}, the stream was at {outcome['version'] - len(own)}"
            self._report("a stale expected version is refused", seen)

    def _sent(self) -> dict[str, dict[str, Any]]:
        """Every command that can be read and lies where it belongs, by id."""
        partitions = self._fleet.scene.partitions
        found: dict[str, dict[str, Any]] = {}
        for record in records_of(self._fleet, self._fleet.topics.commands(self._category)):
            astray = partition_of(record.key or b"", partitions) != record.partition
            if astray and b'"source":"/eventfleet/' in (record.value or b""):
                self._report("what agents send lies where it belongs", repr(record.key))
            if record.value not in GARBAGE and partition_of(record.key or b"", partitions) == record.partition:
                command = json.loads(record.value or b"")
                found.setdefault(command["id"], command)
                if "/chains/" in command["source"]:
                    self._check_derived(command, record.timestamp)
        return found

    def _check_derived(self, command: dict[str, Any], sent_ms: int) -> None:
        """What a chain sends has an id that a replay repeats, made of its cause, and is not sent before its time."""
        due_ms = datetime.fromisoformat(command["time"]).timestamp() * 1000
        if due_ms > sent_ms + (SKEW_MS_MAX if self._fleet.faults[Kind.CLOCK] else SKEW_MS):
            self._report("no timer fires before its time", f"{command['id']}, for {command['time']}")
        sender, cause = command["source"].removeprefix("/eventfleet/"), command["causationid"]
        ids = {str(uuid.uuid5(NAMESPACE, f"{sender}|{cause}|{number}")) for number in range(COMMANDS_PER_CAUSE_MAX)}
        if command["id"] not in ids:
            self._report("what a chain sends has an id that a replay repeats", command["id"])


def check_snapshots(fleet: Fleet, aggregate: Aggregate[Any, Any, Any]) -> None:
    """Each snapshot is the fold of its stream's events, at its newest version."""
    decided: dict[str, list[Any]] = {}
    codec, table = Codec.of_events(aggregate), snapshots_of(aggregate)
    for event in decided_of(fleet, aggregate.category):
        decided.setdefault(event["subject"], []).append(codec.decode(msgspec.json.encode(event)).message)
    wanted = {id_: Snapshot(len(events), aggregate.fold(events)) for id_, events in decided.items()}
    found = {
        key[len(table.prefix) :].decode(): table.decode(raw)
        for worker in fleet.workers
        for (agent, _), store in worker.stores.items()
        for key, raw in (store.rows().items() if agent == f"deciding-{aggregate.category}" else ())
        if key.startswith(table.prefix)
    }
    for id_ in sorted(found.keys() | wanted.keys()):
        if found.get(id_) != wanted.get(id_):
            seen = f"{id_} is {found.get(id_)}, its events lead to {wanted.get(id_)}"
            fleet.watch.report("snapshots are the folds of events", seen)


def check_directory(fleet: Fleet) -> None:
    """The directory's last word on each bucket names who serves it, and what is served."""
    told: dict[tuple[str, int], dict[str, Any]] = {}
    for record in records_of(fleet, fleet.topics.directory):
        entry = json.loads(record.value or b"")
        told[entry["role"], entry["bucket"]] = entry
    for worker in fleet.workers:
        for bucket, pipeline in worker.process.holdings.pipelines.items() if worker.process is not None else ():
            entry = told.get((worker.settings.role, bucket), {"worker": "nobody", "agents": ()})
            served = {shard.agent.name for shard in pipeline.shards}
            if (entry["worker"], set(entry["agents"])) != (worker.name, served):
                seen = f"{worker.name} serves bucket {bucket}, and {entry['worker']} is told of"
                fleet.watch.report("the directory tells who serves", seen)


def check_orders(fleet: Fleet) -> None:
    """The read model of orders, by a fold of a few lines."""
    wanted: dict[str, tuple[int, str]] = {}
    for event in events_of(fleet, "orders"):
        version, status = wanted.get(event["subject"], (0, ""))
        wanted[event["subject"]] = version + 1, STATUS.get(event["type"].split(".")[1], status)
    rows = rows_in(fleet, "projecting-orders", "orders")
    found = {key: (row["version"], row["row"]["status"]) for key, row in rows.items()}
    if found != wanted:
        keys = sorted(key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key))
        seen = f"{keys[0]} is {found.get(keys[0])}, not {wanted.get(keys[0])}"
        fleet.watch.report("the read model is the fold of the events", seen)


def check_heard(fleet: Fleet) -> None:
    """The witness that hears every topic has heard each record once, in order."""
    hearing = next((agent for agent in fleet.agents if agent.name == "hearing"), None)
    if hearing is None:
        return
    fresh = {key: store for worker in fleet.workers for key, store in worker.stores.items()}
    for topic in hearing.sources:
        for log in fleet.cluster.logs_of(topic):
            wanted = Tally(0, 0)
            for record, _ in log.decided():
                wanted = heard_next(wanted, record)
            raw = fresh["hearing", log.partition].rows().get(SEEN.prefix + topic.encode())
            found = Tally(0, 0) if raw is None else SEEN.decode(raw)
            if found != wanted:
                seen = f"{topic}/{log.partition}: heard {found.count} of {wanted.count}"
                fleet.watch.report("each record is folded once, in order", seen)
