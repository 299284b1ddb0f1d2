"""Injecting: what each fault does to the fleet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.runtime.ports import TopicPartition
from app.runtime.topics import CHANGELOG_DELETE_RETENTION_S, partition_of
from simulation.faults import Fault, Kind
from simulation.process import Process
from simulation.witnesses import TALLY_IN
from simulation.worker import Armed, Worker

if TYPE_CHECKING:
    from simulation.fleet import Fleet


class Injection:
    """Injects one scene's faults. `recreated` is the topic that was made again, `must_refuse` who loses by it."""

    def __init__(self, fleet: Fleet) -> None:
        self.recreated: str | None = None
        self.must_refuse: set[tuple[str, int]] = set()
        self._fleet = fleet

    def inject(self, fault: Fault) -> None:
        """Let it happen, now or at the side effect that it waits for."""
        if fault.kind is not Kind.KILL:
            self._fleet.faults[fault.kind] += 1
        worker = self._fleet.workers[fault.worker % len(self._fleet.workers)]
        self._fleet.note(worker.name, "fault", str(fault))
        if fault.effect and fault.kind in (Kind.KILL, Kind.PAUSE):
            worker.armed.append(Armed(fault, fault.skip))
            return
        process = worker.process
        match fault.kind:
            case Kind.COMPACT:
                self._compact()
            case Kind.TIME_OUT:
                self._fleet.cluster.time_out_transactions(0.0)
            case Kind.CLOCK:
                worker.skew_ms = round((fault.share - 0.5) * 600_000)
            case Kind.NIGHT:
                self._night(worker)
            case Kind.MIRROR:
                self._mirror(fault)
            case Kind.RECREATE:
                self._recreate(fault)
            case _ if process is not None:
                self._befall(process, fault)

    def _befall(self, process: Process, fault: Fault) -> None:
        until_s = self._fleet.loop.time() + fault.seconds
        match fault.kind:
            case Kind.KILL | Kind.PAUSE:
                process.strike(fault)
            case Kind.FAIL:
                process.faults.setdefault(fault.effect, []).append((fault.skip, False))
            case Kind.LOSE_ANSWER:
                process.faults.setdefault(fault.effect, []).append((fault.skip, True))
            case Kind.CUT:
                process.cut_off(fault.seconds)
            case Kind.SLOW:
                process.slow[fault.effect] = fault.seconds, until_s + 5.0
            case Kind.RESTART:
                self._fleet.loop.create_task(self._fleet.restart(process.worker, process))
            case Kind.JUMP:
                process.consumer.jump(fault.share, fault.seconds)
            case Kind.REPEAT:
                process.consumer.repeat()
            case Kind.DROP:
                process.consumer.forget()
                process.worker.group.shake()
            case Kind.DEPOSE:
                process.ask_deposed_leaders(fault.seconds)
            case Kind.DISK:
                process.disk_full_until_s = until_s

    def _compact(self) -> None:
        before_ms = self._fleet.epoch_ms() - round(CHANGELOG_DELETE_RETENTION_S * 1000)
        for agent in self._fleet.watch.logged:
            for log in self._fleet.cluster.logs_of(self._fleet.topics.changelog(agent)):
                log.compact(before_ms=before_ms)

    def _night(self, worker: Worker) -> None:
        """The worker is down while a day goes by for everybody else."""
        process = worker.process
        if process is None:
            return
        # Long enough for others to take its buckets over and to delete rows there.
        self._fleet.kill(process, Fault(Kind.KILL, 0.0, seconds=6.0, share=1.0))
        self._fleet.loop.call_later(4.0, self._send_all_keys)
        self._fleet.loop.call_later(5.0, self._dawn)

    def _send_all_keys(self) -> None:
        """One record more for each key of the witness: rows go, by tombstones that the worker sleeps over."""
        for key in (b"a", b"b", b"c", b"d"):
            number = partition_of(key, self._fleet.scene.partitions)
            self._fleet.cluster.append(TopicPartition(TALLY_IN, number), (key, b"night"))

    def _dawn(self) -> None:
        if self._fleet.settled:
            return
        self._fleet.extra_ms += round((CHANGELOG_DELETE_RETENTION_S + 600) * 1000)
        self._fleet.note("time", "a day goes by")
        self._compact()

    def _mirror(self, fault: Fault) -> None:
        """Write an event once more, outside of any transaction."""
        fleet = self._fleet
        topics = [fleet.topics.events(category) for category in fleet.categories]
        there = [record for topic in topics for log in fleet.cluster.logs_of(topic) for record, _ in log.decided()]
        if there:
            record = there[int(fault.share * len(there))]
            partition = TopicPartition(record.topic, record.partition)
            self._fleet.cluster.append(partition, (record.key, record.value, record.headers))

    def _recreate(self, fault: Fault) -> None:
        fleet = self._fleet
        logged = [agent for agent in fleet.agents if agent.logged]
        agent = logged[int(fault.share * 1e6) % len(logged)]
        topic = fleet.topics.changelog(agent.name) if int(fault.share * 1e3) % 2 else agent.sources[0]
        fleet.note("topic", "made again", topic)
        if topic != agent.sources[0] and int(fault.share * 1e4) % 2:  # the disks are gone with it: only the group knows
            for process in [worker.process for worker in fleet.workers if worker.process is not None]:
                fleet.kill(process, Fault(Kind.KILL, fault.at_s, seconds=0.5, share=0.0))
        self.recreated, self.must_refuse = topic, self._losers_by(topic)
        old = [(log.partition, log.decided()) for log in fleet.cluster.logs_of(topic)]
        fleet.cluster.delete_topic(topic)
        fleet.cluster.create_topics([topic], fleet.scene.partitions)
        if topic == agent.sources[0] and int(fault.share * 1e5) % 2:  # and filled anew: its end tells nothing
            for number, records in old:
                for record, _ in records * 3:
                    fleet.cluster.append(TopicPartition(topic, number), (record.key, record.value))

    def _losers_by(self, topic: str) -> set[tuple[str, int]]:
        """The workers and buckets that cannot go on without the records of a topic: they have counted on them."""
        fleet, found = self._fleet, set[tuple[str, int]]()
        for worker in fleet.workers:
            disk = {key: store.progress is not None for key, store in worker.stores.items()}
            for agent in worker.agents:
                for number in range(fleet.scene.partitions) if agent.logged else ():
                    on_disk = topic == fleet.topics.changelog(agent.name) and disk.get((agent.name, number), False)
                    alone = [a for a in worker.agents if a.logged and set(a.sources) & set(agent.sources)] == [agent]
                    told = any(worker.group.offsets.get(TopicPartition(s, number)) for s in agent.sources)
                    if topic == fleet.topics.changelog(agent.name) and alone and told:
                        found.add((worker.name, number % fleet.scene.buckets))  # whatever is on its disk
                    if on_disk or fleet.watch.positions(agent.name, number).get(topic):
                        found.add((worker.name, number % fleet.scene.buckets))
        return found
