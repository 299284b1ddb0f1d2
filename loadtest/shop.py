"""A shop in which everything goes wrong: drives orders that the fleet fulfils, and does what their customers do.

Unlike `drive`, it answers what it sees: a customer pays when payment is requested, a carrier confirms what was shipped.
What its unruly desk has shuffled so that it came too early (`not found`) is sent again, as a new command.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from app.domain.order import CancelOrder, ConfirmDelivery, CreateOrder, ProcessPayment
from app.kernel import Command
from app.kernel.errors import BrokerUnavailable
from app.runtime.settings import Settings
from app.runtime.topics import Topics
from loadtest import connecting
from loadtest.customers import Step
from loadtest.desk import UnrulyDesk
from loadtest.drive import Driven, Progress
from loadtest.latencies import Latencies
from loadtest.lives import Habit, Life, setting_up
from loadtest.probes import ViewProbes
from loadtest.senders import now

CATEGORIES = ("orders", "inventory", "customers")
TOO_EARLY = {"order_not_found", "customer_not_found", "customer_not_verified"}
TOO_LATE = {"order_not_created", "order_not_cancellable"}
"""What who cancels after having paid may be told: one of the two commands came too late."""
AGAIN_S = 0.1
TRIES_MAX = 50
QUIET_TIMEOUT_S = 60.0
"""Where nothing has happened for so long, nothing more will."""
PROGRESS_EVERY_S = 1.0
COMMANDS_PER_ORDER = 3


class _Sent(NamedTuple):
    command: Command
    intended: float
    tries: int


class Shop:
    """Sends, watches and answers until every order has ended. `driven` is what it came to."""

    def __init__(self, settings: Settings, urls: Sequence[str], lives: Sequence[Life], run: str, seed: int) -> None:
        self.driven = Driven(outcome_latencies=Latencies())
        self._run, self._settings = run, settings
        self._lives = {life.order_id: life for life in lives}
        self._probes = ViewProbes(urls)
        self._desk = UnrulyDesk(settings, seed, self.driven.mismatches.append)
        self._open: dict[str, _Sent] = {}
        self._answered: set[str] = set()
        self._events: dict[str, list[str]] = {life.order_id: [] for life in lives}
        self._aside: Counter[str] = Counter()
        self._number = 0
        self._news = asyncio.Event()
        self._again: set[asyncio.Task[None]] = set()
        self._consumer: Any = AIOKafkaConsumer(
            bootstrap_servers=settings.brokers,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="latest",
            fetch_max_wait_ms=100,
        )

    async def trade(self, rate: float, progress: Callable[[Progress], None] = lambda progress: None) -> Driven:
        """Set the shop up, take its orders at `rate` a second, and see each of them to its end."""
        await connecting.start(self._consumer, self._settings.brokers)
        tasks: list[asyncio.Task[None]] = []
        try:
            await self._stand_at_the_ends()
            await self._desk.start()
            await self._probes.start()
            tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._trade(rate, progress))]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in (*tasks, *self._again):
                task.cancel()
            await asyncio.gather(*tasks, *self._again, return_exceptions=True)
            await self._probes.stop()
            await self._desk.stop()
            await connecting.stop(self._consumer)
        return self._sum_up()

    async def _stand_at_the_ends(self) -> None:
        topics = Topics(self._settings.topic_prefix)
        names = [name for category in CATEGORIES for name in (topics.outcomes(category), topics.events(category))]
        assigned = [TopicPartition(name, number) for name in names for number in range(self._settings.partitions)]
        self._consumer.assign(assigned)
        await self._consumer.seek_to_end(*assigned)
        await asyncio.gather(*(self._consumer.position(partition) for partition in assigned))

    async def _trade(self, rate: float, progress: Callable[[Progress], None]) -> None:
        for command in setting_up(self._run):
            self._send(command, now())
        await self._until(lambda: not self._open and not self._again, "the shop is set up")
        self.driven.outcome_latencies = Latencies()
        began = now()
        ticking = asyncio.create_task(self._tick(began, progress))
        try:
            for number, life in enumerate(self._lives.values()):
                intended = began + number / rate
                await asyncio.sleep(max(intended - now(), 0))
                self.driven.late_max_s = max(self.driven.late_max_s, now() - intended)
                self._order(life, intended)
            await self._until(self._all_ended, "every order has ended")
            await self._desk.finish()
            await self._probes.finish()
        finally:
            self.driven.seconds = now() - began
            ticking.cancel()
            await asyncio.gather(ticking, return_exceptions=True)

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        while not condition():
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), QUIET_TIMEOUT_S)
            except TimeoutError:
                self.driven.mismatches.append(f"nothing has happened for {QUIET_TIMEOUT_S:.0f} s, before {what}")
                return

    # Customers, the gateway, the carrier

    def _order(self, life: Life, intended: float) -> None:
        command_id = self._send(life.create, intended)
        self._probes.sent(Step(command_id, life.create, 1), intended)
        match life.habit:
            case Habit.REGRETS:
                self._send(CancelOrder(life.order_id, "changed my mind"), intended)
            case Habit.PAYS_AT_ONCE:
                self._pay(life, None)

    def _asked_to_pay(self, life: Life) -> None:
        match life.habit:
            case Habit.PAYS:
                self._pay(life, None)
            case Habit.DECLINED:
                self._pay(life, "insufficient funds")
            case Habit.REGRETS_LATE:
                self._pay(life, None)
                self._send(CancelOrder(life.order_id, "found it cheaper"), now())

    def _pay(self, life: Life, declined: str | None) -> None:
        payment = ProcessPayment(life.order_id, f"payment-{life.order_id}", life.total, declined)
        self._send(payment, now())

    def _send(self, command: Command, intended: float, tries: int = 0) -> str:
        self._number += 1
        command_id = f"{self._run}:{self._number}"
        self._open[command_id] = _Sent(command, intended, tries)
        self.driven.commands += 1
        self._desk.send(command_id, command)
        return command_id

    async def _send_again(self, sent: _Sent) -> None:
        await asyncio.sleep(AGAIN_S)
        self._send(sent.command, now(), sent.tries + 1)

    # What the fleet says

    async def _watch(self) -> None:
        while True:
            try:
                fetched = await self._consumer.getmany(timeout_ms=500)
            except KafkaError as error:
                raise BrokerUnavailable(f"the topics cannot be read on: {error!r}; see Kafka's log") from error
            for partition, records in fetched.items():
                take = self._outcome if partition.topic.endswith(".outcomes") else self._event
                for record in records:
                    take(json.loads(record.value))
            if fetched:
                self._news.set()

    def _outcome(self, told: dict[str, Any]) -> None:
        command_id, rejected = told["data"]["command_id"], told["data"].get("rejected")
        if command_id in self._answered:
            self.driven.mismatches.append(f"{command_id} has a second outcome")
        if (sent := self._open.pop(command_id, None)) is None:
            return  # a chain's, or another run's
        self._answered.add(command_id)
        self.driven.outcomes += 1
        self.driven.outcome_latencies.add(now() - sent.intended)
        if rejected is None:
            return
        reason = rejected["reason"]
        self.driven.rejected[reason] = self.driven.rejected.get(reason, 0) + 1
        if reason in TOO_EARLY and sent.tries < TRIES_MAX:
            task = asyncio.create_task(self._send_again(sent))
            self._again.add(task)
            task.add_done_callback(self._again.discard)
        elif not self._may_be_refused(sent.command, reason):
            self.driven.mismatches.append(f"{command_id}: {type(sent.command).__name__} was refused: {reason}")

    def _may_be_refused(self, command: Command, reason: str) -> bool:
        life = self._lives.get(getattr(command, "order_id", ""))
        late = life is not None and life.habit is Habit.REGRETS_LATE
        return late and reason in TOO_LATE and not isinstance(command, CreateOrder)

    def _event(self, told: dict[str, Any]) -> None:
        kind, data = told["type"].split(".")[1], told["data"]
        if told["type"].startswith("inventory."):
            change = {"reserved": data["quantity"], "released": -data["quantity"]}.get(kind, 0)
            self._aside[data.get("order_id", "")] += change
            return
        life = self._lives.get(told["subject"])
        if life is None:
            return
        self._events[life.order_id].append(kind)
        if kind == "payment-requested":
            self._asked_to_pay(life)
        elif kind == "shipped":
            self._send(ConfirmDelivery(life.order_id), now())

    def _all_ended(self) -> bool:
        """Every order has come to its end, nothing is set aside for a cancelled one, every command is answered."""
        return not self._open and not self._again and all(map(self._ended, self._events.items()))

    def _ended(self, order: tuple[str, list[str]]) -> bool:
        order_id, events = order
        if "cancelled" not in events:
            return "delivered" in events
        refunded = "payment-processed" not in events or "refund-requested" in events
        return refunded and not self._aside[order_id]

    async def _tick(self, began: float, progress: Callable[[Progress], None]) -> None:
        while True:
            await asyncio.sleep(PROGRESS_EVERY_S)
            total = len(self._lives) * COMMANDS_PER_ORDER
            p99 = self.driven.outcome_latencies.percentile(99)
            done = self.driven.commands
            progress(Progress(now() - began, done, max(total, done), self.driven.outcomes, len(self._open), p99))

    def _sum_up(self) -> Driven:
        driven = self.driven
        driven.repeats = self._desk.doubled
        driven.view_latencies = self._probes.latencies
        driven.rejected = dict(sorted(driven.rejected.items()))
        driven.mismatches += [f"{command_id} has no outcome" for command_id in sorted(self._open)]
        if self._probes.failed:
            driven.mismatches.append(f"{self._probes.failed} orders were not visible in the view in time")
        return driven
