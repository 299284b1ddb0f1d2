"""The coordinator of a role's consumer group: who is a member, and whose the buckets are."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING

from app.runtime.buckets import Member, assign_buckets, assign_standbys
from app.runtime.ports import TopicPartition

if TYPE_CHECKING:
    from simulation.fleet import Fleet
    from simulation.process import Process


class Group:
    """Eager rebalances, as Faust has them: everybody gives up everything, then each is told what it gets.

    A member that is not heard of for the session's time-out loses its buckets to others without being asked. It may be
    alive and think that it has them still: a zombie.
    """

    def __init__(self, fleet: Fleet, buckets: int, session_timeout_s: float) -> None:
        self._fleet = fleet
        self._buckets = buckets
        self._session_timeout_s = session_timeout_s
        self._members: dict[str, Process] = {}
        self._generation = 0
        self._changed = asyncio.Event()
        self._random = Random(f"{fleet.seed}/group")
        self.offsets: dict[TopicPartition, int] = {}
        """What was committed to the group."""

    def join(self, process: Process) -> None:
        """A member comes, or comes back. It takes the place of an older life of its worker: static membership."""
        for name in [name for name, other in self._members.items() if other.worker is process.worker]:
            del self._members[name]
        self._members[process.name] = process
        self._changed.set()

    def leave(self, process: Process) -> None:
        """A member goes."""
        if self._members.pop(process.name, None) is not None:
            self._changed.set()

    def shake(self) -> None:
        """A rebalance for nothing."""
        self._changed.set()

    def silent(self, process: Process) -> None:
        """No heartbeat arrives any more: if it stays so for the session's time-out, the member is out."""
        since_s = self._fleet.loop.time()
        self._fleet.loop.call_later(self._session_timeout_s, self._look_after, process, since_s)

    def _look_after(self, process: Process, since_s: float) -> None:
        if not process.heard and process.name in self._members:
            self._expel(process)

    def _expel(self, process: Process) -> None:
        self._fleet.note(process.name, "expelled")
        process.expelled = True
        self.leave(process)

    async def run(self) -> None:
        """Rebalance whenever the members change."""
        while True:
            await self._changed.wait()
            await asyncio.sleep(0.01 * self._random.random())
            self._changed.clear()
            await self._rebalance()

    async def _rebalance(self) -> None:
        asked = list(self._members.values())
        work = [process.spawn(process.revoked()) for process in asked]
        if work:
            await asyncio.wait(work, timeout=self._session_timeout_s)
        for process, task in zip(asked, work, strict=True):
            if not task.done() and self._members.get(process.name) is process:
                self._expel(process)
        members = {p.name: p for p in asked if self._members.get(p.name) is p and p.alive}
        self._generation += 1
        told = {
            name: Member(p.worker.name, self._buckets, tuple(p.holdings.held()), p.warm())
            for name, p in members.items()
        }
        given = assign_buckets(told, self._buckets)
        standing = assign_standbys(told, given, self._buckets, self._fleet.scene.standbys)
        for name, buckets in given.items():
            delay_s = 0.05 * self._random.random()
            self._fleet.loop.call_later(delay_s, self._tell, members[name], self._generation, buckets, standing[name])

    def _tell(self, process: Process, generation: int, buckets: list[int], standing_by: list[int]) -> None:
        if process.alive:
            process.spawn(process.assigned(generation, buckets, standing_by))
