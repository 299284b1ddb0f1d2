"""The load: an open model with bursts. Whole order lives, a shop with its gateway, customers who are out of order."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from app.domain.inventory import INVENTORY, StockProduct
from app.domain.order import ORDER, CreateOrder, Item, ProcessPayment
from app.kernel import Command, Envelope, stream_id_of
from app.runtime.codec import Codec, utc_now
from app.runtime.settings import Settings
from app.runtime.topics import Topics, partition_of
from chaos.ledger import Expected, Ledger
from chaos.postman import News, Postman, follow
from loadtest.customers import Habits, Step, script

SOURCE = "/eventfleet/chaos"
THINK_S = 0.25
BURST_EVERY_S, BURST_S, BURST_FACTOR = (9.0, 15.0), 2.0, 4.0
ORDERS_AT_ONCE_MAX = 20_000
PRODUCTS, PIECES_PER_ITEM_MAX, ITEMS_MAX = 8, 3, 3
STOCK_SHARE = 0.8
"""Of what will be asked for: some orders find the shelf empty."""
DECLINED_EVERY = 5
CODECS = {aggregate.category: Codec(aggregate.commands) for aggregate in (ORDER, INVENTORY)}

Kind = Literal["scripted", "shop", "disordered"]
SHARES: tuple[tuple[Kind, float], ...] = (("scripted", 0.65), ("shop", 0.2), ("disordered", 0.15))


@dataclass(frozen=True)
class Arrival:
    """An order that begins."""

    at_s: float
    order_id: str
    kind: Kind
    seed: int


def arrivals(run: str, seed: int, rate: float, seconds: float) -> Iterator[Arrival]:
    """A Poisson process of `rate` orders a second; every now and then, for a moment, of several times as many."""
    lots = random.Random(f"load {seed}")
    at_s, number, burst_s = 0.0, 0, lots.uniform(*BURST_EVERY_S)
    while True:
        if at_s > burst_s + BURST_S:
            burst_s = at_s + lots.uniform(*BURST_EVERY_S)
        at_s += lots.expovariate(rate * (BURST_FACTOR if at_s >= burst_s else 1.0))
        if at_s >= seconds:
            return
        kind = lots.choices([kind for kind, _ in SHARES], [share for _, share in SHARES])[0]
        yield Arrival(at_s, f"{run}-{kind}-{number:06d}", kind, lots.getrandbits(32))
        number += 1


class Load:
    """Sends, follows what comes of it, and plays the payment gateway.

    Two knobs are the faults' own: `copies`, how often each record is sent, and `shuffle`, whether customers send their
    steps in any order from now on.
    """

    def __init__(self, settings: Settings, run: str, seed: int, rate: float, seconds: float) -> None:
        self.ledger = Ledger()
        self.copies = 1
        self.shuffle = False
        self.poison = 0
        self.late_max_s = 0.0
        self.shop: dict[str, list[str]] = {}
        self._run, self._seed, self._rate, self._seconds = run, seed, rate, seconds
        self._settings, self._topics = settings, Topics(settings.topic_prefix)
        self._postman = Postman(settings.brokers)
        self._tasks: set[asyncio.Task[None]] = set()
        self._following: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Follow the logs, and put stock on the shelves."""
        names = [self._topics.outcomes("orders"), self._topics.events("orders")]
        ready = asyncio.Event()
        self._following = [asyncio.create_task(self._follow(names, ready))]
        await ready.wait()
        wanted = self._rate * self._seconds * dict(SHARES)["shop"] * (PIECES_PER_ITEM_MAX + 1) / 2 * (ITEMS_MAX + 1) / 2
        for number in range(PRODUCTS):
            stock = StockProduct(f"{self._run}-p{number}", max(1, int(wanted * STOCK_SHARE / PRODUCTS)))
            await self.post(stock, f"{self._run}-stock-{number}", None)
        self.ledger.started += self.ledger.now()

    async def run(self) -> None:
        """Let every order begin when it is due, whatever has become of those before."""
        for arrival in arrivals(self._run, self._seed, self._rate, self._seconds):
            pause = arrival.at_s - self.ledger.now()
            await asyncio.sleep(max(0.0, pause))
            self.late_max_s = max(self.late_max_s, -pause)
            if len(self._tasks) < ORDERS_AT_ONCE_MAX:
                self.in_background(self._live(arrival))

    def in_background(self, work: Any) -> None:
        """Let it happen beside everything else."""
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.ledger.violation(f"the load itself has failed: {error!r}")

    def pending(self) -> str | None:
        """What has not come to its end yet; `None` when everything has."""
        if self._tasks:
            return f"{len(self._tasks)} orders are still being sent"
        if unanswered := self.ledger.unanswered():
            return f"{len(unanswered)} commands have no outcome, {unanswered[0]} for one"
        if unsettled := self.unsettled():
            return f"{len(unsettled)} fulfilments have not ended, {unsettled[0]} for one: {self.shop[unsettled[0]]}"
        return None

    def unsettled(self) -> list[str]:
        """Orders of the shop that are neither shipped nor cancelled."""
        return [order_id for order_id, kinds in self.shop.items() if not {"shipped", "cancelled"} & set(kinds)]

    async def stop_following(self) -> None:
        """From now on the logs are no business of ours: the last scene deletes one of them."""
        for task in self._following:
            task.cancel()
        await asyncio.gather(*self._following, return_exceptions=True)

    async def close(self) -> None:
        """End it."""
        for task in (tasks := [*self._tasks, *self._following]):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._postman.close()

    # One order

    async def _live(self, arrival: Arrival) -> None:
        lots = random.Random(arrival.seed)
        if arrival.kind == "shop":
            create = self._wanted_of_the_shop(arrival.order_id, lots)
            await self.post(create, f"{arrival.order_id}:0", Expected(None, 1), intended_s=arrival.at_s)
            return
        steps = script(arrival.order_id, lots, Habits())
        if arrival.kind == "disordered" or self.shuffle:
            lots.shuffle(steps)
            await asyncio.gather(*(self._step(step, arrival.at_s, foreseen=False) for step in steps))
            return
        for number, step in enumerate(steps):
            due_s = arrival.at_s + number * THINK_S
            await asyncio.sleep(max(0.0, due_s - self.ledger.now()))
            await self._step(step, due_s, foreseen=True)

    async def _step(self, step: Step, due_s: float, *, foreseen: bool) -> None:
        expected = Expected(step.rejected, step.version) if foreseen else None
        await self.post(
            step.command, step.command_id, expected, intended_s=due_s, expected_version=step.expected_version
        )

    def _wanted_of_the_shop(self, order_id: str, lots: random.Random) -> CreateOrder:
        products = lots.sample(range(PRODUCTS), lots.randint(1, ITEMS_MAX))
        items = tuple(
            Item(f"{self._run}-p{number}", lots.randint(1, PIECES_PER_ITEM_MAX), Decimal("2.50")) for number in products
        )
        return CreateOrder(order_id, f"customer-{lots.randrange(500)}", "Ann", "a@example.org", items, fulfil=True)

    async def post(
        self,
        command: Command,
        command_id: str,
        expected: Expected | None,
        *,
        intended_s: float | None = None,
        expected_version: int | None = None,
    ) -> None:
        """Send a command until a broker has it, and again as often as `copies` says."""
        category = "inventory" if type(command) in INVENTORY.commands else "orders"
        stream_id = stream_id_of(command)
        value = CODECS[category].encode(Envelope(command_id, stream_id, utc_now(), command, expected_version), SOURCE)
        topic, partition = self._topics.commands(category), partition_of(stream_id, self._settings.partitions)
        if category == "orders":
            self.ledger.sending(command_id, expected, self.ledger.now() if intended_s is None else intended_s)
        for copy in range(self.copies):
            await self._postman.send(topic, partition, stream_id.encode(), value)
            if not copy and category == "orders":
                self.ledger.acknowledged(command_id)

    async def post_raw(self, category: str, partition: int, key: bytes, value: bytes | None) -> None:
        """Send something that is no command."""
        self.poison += 1
        await self._postman.send(self._topics.commands(category), partition, key, value)

    # What comes of it

    async def _follow(self, names: list[str], ready: asyncio.Event) -> None:
        async with contextlib.aclosing(
            follow(self._settings.brokers, names, self._settings.partitions, self.ledger, ready)
        ) as news:
            async for one in news:
                self._see(one)

    def _see(self, news: News) -> None:
        try:
            told = json.loads(news.value or b"")
            if news.topic == self._topics.events("orders"):
                self._see_event(told)
            else:
                outcome = told["data"]
                reason = outcome["rejected"]["reason"] if outcome.get("rejected") else None
                self.ledger.answered(outcome["command_id"], reason, outcome["version"])
        except (ValueError, KeyError, TypeError) as error:
            self.ledger.violation(f"{news.topic} holds something unheard of: {error!r}")

    def _see_event(self, event: dict[str, Any]) -> None:
        order_id, kind = str(event["subject"]), str(event["type"]).split(".")[1]
        if not order_id.startswith(f"{self._run}-shop-"):
            return
        self.shop.setdefault(order_id, []).append(kind)
        if kind == "payment-requested":
            declined = "no funds" if int(order_id.rpartition("-")[2]) % DECLINED_EVERY == 0 else None
            payment = ProcessPayment(order_id, f"pay-{order_id}", Decimal(event["data"]["amount"]), declined)
            self.in_background(self.post(payment, f"pay-{order_id}", None))

    def check_shop(self) -> None:
        """Note what must not have happened to any order of the shop."""
        for order_id, kinds in self.shop.items():
            twice = sorted(kind for kind, times in Counter(kinds).items() if times > 1)
            if twice:
                self.ledger.violation(f"{order_id}: {', '.join(twice)} more than once: {kinds}")
            if {"shipped", "cancelled"} <= set(kinds):
                self.ledger.violation(f"{order_id} was shipped and cancelled: {kinds}")
