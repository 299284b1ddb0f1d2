"""Watches the outcomes topic: when did each command's outcome come, and was it the expected one."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from app.kernel.errors import BrokerUnavailable
from loadtest import connecting
from loadtest.customers import Step
from loadtest.latencies import Latencies


class Waiting:
    """The commands that were sent and what has come back: one outcome for each, and the expected one."""

    def __init__(self) -> None:
        self.latencies = Latencies()
        self.mismatches: list[str] = []
        self.rejected: dict[str, int] = {}
        self.outcomes = 0
        self.repeats = 0
        self._open: dict[str, tuple[Step, float]] = {}
        self._answered: set[str] = set()
        self.all_answered = asyncio.Event()
        self.all_answered.set()

    def __len__(self) -> int:
        return len(self._open)

    def sent(self, step: Step, intended: float) -> None:
        """Note a command; repeats wait for nothing of their own."""
        if not step.repeat:
            self._open[step.command_id] = step, intended
            self.all_answered.clear()

    def answered(self, command_id: str, reason: str | None, version: int) -> None:
        """Note an outcome."""
        if command_id in self._answered:
            self.mismatch(f"{command_id} has a second outcome")
            return
        if command_id not in self._open:
            return  # another run's
        step, intended = self._open.pop(command_id)
        self._answered.add(command_id)
        self.latencies.add(time.perf_counter() - intended)
        self.outcomes += 1
        if reason is not None:
            self.rejected[reason] = self.rejected.get(reason, 0) + 1
        self._compare(step, reason, version)
        if not self._open:
            self.all_answered.set()

    def repeated(self, step: Step, reason: str | None, version: int) -> None:
        """Note what a repeated command was told: it must be what it was told the first time."""
        self.repeats += 1
        self._compare(step, reason, version)

    def _compare(self, step: Step, reason: str | None, version: int) -> None:
        if (reason, version) != (step.rejected, step.version):
            self.mismatch(
                f"{step.command_id}: {reason or 'accepted'} at version {version}, "
                f"not {step.rejected or 'accepted'} at {step.version}{' when repeated' if step.repeat else ''}"
            )

    def mismatch(self, text: str) -> None:
        """Note that something is not as it must be."""
        self.mismatches.append(text)

    def lost(self, command_id: str, text: str) -> None:
        """Note that a command's outcome will not come."""
        self.mismatch(text)
        self._open.pop(command_id, None)
        if not self._open:
            self.all_answered.set()

    def unanswered(self) -> list[str]:
        """Command ids without an outcome."""
        return sorted(self._open)


class OutcomeReader:
    """Reads the outcomes topic from its present end on, settled records only, without a group."""

    def __init__(self, brokers: str, topic: str, waiting: Waiting) -> None:
        self._brokers, self._topic = brokers, topic
        self._waiting = waiting
        self._consumer: Any = AIOKafkaConsumer(
            bootstrap_servers=brokers,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="latest",
            fetch_max_wait_ms=100,
        )

    async def start(self, partitions: int) -> None:
        """Stand at the end of the topic."""
        await connecting.start(self._consumer, self._brokers)
        assigned = [TopicPartition(self._topic, number) for number in range(partitions)]
        self._consumer.assign(assigned)
        await self._consumer.seek_to_end(*assigned)

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            try:
                fetched = await self._consumer.getmany(timeout_ms=500)
            except KafkaError as error:
                raise BrokerUnavailable(f"{self._topic} cannot be read on: {error!r}; see Kafka's log") from error
            for records in fetched.values():
                for record in records:
                    self._note(record.value)

    def _note(self, value: bytes | None) -> None:
        try:
            outcome = json.loads(value or b"")["data"]
            reason = outcome["rejected"]["reason"] if outcome.get("rejected") else None
            self._waiting.answered(outcome["command_id"], reason, outcome["version"])
        except (ValueError, KeyError, TypeError) as error:
            self._waiting.mismatch(f"{self._topic} has a record that is no outcome: {error!r}")

    async def stop(self) -> None:
        """Let the connection go."""
        await connecting.stop(self._consumer)
