"""Windows on the engine: whoever dies, each final figure is right and told once, and no event is lost or counted twice.

A model of a few lines says which events are late and what every window holds; the engine must agree with it.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents.windowing import windowing, windowing_name
from app.catalogue import decoder_of
from app.domain.order import ORDER, Item, OrderCreated
from app.kernel import Envelope, Hopping, Session, Sliding, Tumbling, Window, total_of
from app.kernel.window import ms_of, time_of
from app.runtime.codec import Codec
from app.runtime.ports import TopicPartition
from app.runtime.simulated.clock import EPOCH_MS
from app.runtime.topics import Topic, partition_of
from tables.windows import ONLY, SOURCE_TIME, WAITING, SourceTime, partials_of
from tests.property.lives import PARTITIONS, TOPICS, Town

BEGIN = EPOCH_MS - 86_400_000 - (EPOCH_MS % 60_000)
GRACE_S, GAP_S, IDLE_S = 7, 20, 30
CODEC = Codec(ORDER.events)
TICKS_MAX = 30
Figures = dict[tuple[str | None, int, int], tuple[int, Decimal]]
"""By key, start and end (in seconds after the beginning): the count and the total."""


def window(kind: Tumbling | Hopping | Sliding | Session, *, keyed: bool) -> Window[Any]:
    named: dict[str, Any] = {"key": lambda order: order.customer_id} if keyed else {}
    return Window(
        name="tested",
        category=ORDER.category,
        events=(OrderCreated,),
        kind=kind,
        grace=timedelta(seconds=GRACE_S),
        fold=total_of(lambda order: order.total),
        idle=timedelta(seconds=IDLE_S),
        **named,
    )


TUMBLING = window(Tumbling(timedelta(seconds=10)), keyed=False)
TUMBLING_BY_CUSTOMER = window(Tumbling(timedelta(seconds=10)), keyed=True)
HOPPING = window(Hopping(timedelta(seconds=15), timedelta(seconds=5)), keyed=True)
SLIDING = window(Sliding(timedelta(seconds=30)), keyed=True)
SESSION = window(Session(timedelta(seconds=GAP_S)), keyed=True)


class Sale(NamedTuple):
    """An order: when, in seconds after the beginning; whose; worth what."""

    at: float
    customer: str
    total: int


@dataclass
class Shop:
    """A town with one window, and the orders that have come in."""

    window: Window[Any]
    town: Town = field(init=False)
    sales: list[tuple[str, Sale]] = field(default_factory=list)
    clock_s: float = 0.0

    def __post_init__(self) -> None:
        agent = windowing(self.window, TOPICS, decoder_of(ORDER), PARTITIONS)
        own = [*TOPICS.of_window("tested", ends=self.window.ends), *TOPICS.of_agent(agent.name, logged=True)]
        self.town = Town([agent], [Topic(TOPICS.events("orders")), *own])

    def sell(self, *sales: Sale) -> None:
        for sale in sales:
            id_ = f"o{len(self.sales)}"
            self.sales.append((id_, sale))
            self.send(id_, sale)

    def send(self, id_: str, sale: Sale) -> None:
        total = Decimal(sale.total)
        created = OrderCreated(id_, sale.customer, "Ann", "a@example.org", (Item("p", 1, total),), total)
        time = time_of(BEGIN + round(sale.at * 1000))
        event = Envelope(f"e-{id_}", id_, time, created, 1)
        self.town.send(TOPICS.events("orders"), [(id_, CODEC.encode(event, "/t"))])

    def tick(self, at_s: float) -> bool:
        """Tell the time to the partitions that wait for it, as workers do; whether there were any."""
        waiting = []
        for number in range(PARTITIONS):
            store = self.town.stores(windowing_name(self.window), number)
            if store.scan(WAITING.prefix, limit=1):
                waiting.append(number)
        self.town.stores.crash()
        value = json.dumps({"time": time_of(BEGIN + round(at_s * 1000)).isoformat()}).encode()
        for number in waiting:
            self.town.cluster.append(TopicPartition(TOPICS.ticks("tested"), number), (None, value))
        return bool(waiting)

    async def close(self, **life: Any) -> None:
        """Let time go on until nothing waits for it."""
        at = 10_000.0
        for _ in range(TICKS_MAX):
            if not self.tick(at):
                return
            await self.town.live(**life)
            await self.town.live()
            at += IDLE_S
        raise AssertionError("windows stay open for ever")

    def finals(self) -> Figures:
        """What was told; each window once."""
        told = [json.loads(r.value or b"") for r in self._records(TOPICS.finals("tested"))]
        assert len({one["id"] for one in told}) == len(told), "a window was told twice"
        return {
            (one["data"]["key"], _s(one["data"]["start"]), _s(one["data"]["end"])): (
                one["data"]["count"],
                Decimal(one["data"]["total"]),
            )
            for one in told
        }

    def late(self) -> list[tuple[str, int]]:
        """The orders that came too late, and for how many windows."""
        found = []
        for record in self._records(TOPICS.late("tested")):
            missed = dict(record.headers)["missed"].decode().split(",")
            found.append((json.loads(record.value or b"")["subject"], len(missed)))
        return sorted(found)

    def _records(self, topic: str) -> list[Any]:
        return [r for n in range(PARTITIONS) for r in self.town.cluster.records(TopicPartition(topic, n))]


def _s(time: str) -> int:
    return (ms_of(datetime.fromisoformat(time)) - BEGIN) // 1000


# The model


def expected(window_: Window[Any], sales: Sequence[tuple[str, Sale]]) -> tuple[Figures, list[tuple[str, int]]]:
    """What is final in the end, and what is late: from the order of events in each partition alone."""
    watermarks: dict[int, int] = defaultdict(int)
    late, taken = [], []
    for id_, sale in sales:
        number, at = partition_of(id_, PARTITIONS), BEGIN + round(sale.at * 1000)
        watermark = watermarks[number]
        watermarks[number] = max(watermark, at)
        if isinstance(window_.kind, Session):
            if at + GRACE_S * 1000 < watermark:
                late.append((id_, 1))
            else:
                taken.append((sale, at, at))
            continue
        spans = window_.spans(at)
        missed = [span for span in spans if span.end + GRACE_S * 1000 <= watermark]
        late += [(id_, len(missed))] if missed else []
        taken += [(sale, span.start, span.end) for span in spans if span not in missed]
    found: dict[tuple[str | None, int, int], tuple[int, Decimal]] = {}
    for sale, start, end in _sessions(taken) if isinstance(window_.kind, Session) else taken:
        key = (sale.customer if window_.keyed else None, (start - BEGIN) // 1000, (end - BEGIN) // 1000)
        count, total = found.get(key, (0, Decimal(0)))
        found[key] = (count + 1, total + sale.total)
    return found, sorted(late)


def _sessions(taken: Sequence[tuple[Sale, int, int]]) -> list[tuple[Sale, int, int]]:
    """Each sale with the start and end of its session."""
    found: list[tuple[Sale, int, int]] = []
    for customer in {sale.customer for sale, _, _ in taken}:
        session: list[tuple[Sale, int]] = []
        mine = sorted(((sale, at) for sale, at, _ in taken if sale.customer == customer), key=lambda one: one[1])
        for sale, at in [*mine, (Sale(0, "", 0), 1 << 60)]:
            if session and at - session[-1][1] >= GAP_S * 1000:
                found += [(one, session[0][1], session[-1][1] + GAP_S * 1000) for one, _ in session]
                session = []
            session.append((sale, at))
    return found


SALES = st.lists(
    st.builds(Sale, st.integers(0, 120), st.sampled_from(["ann", "bob"]), st.integers(1, 5)), min_size=1, max_size=25
)
DEATHS = st.lists(st.tuples(st.integers(1, 60), st.booleans(), st.integers(1, 5)), max_size=5)
KINDS = [TUMBLING, TUMBLING_BY_CUSTOMER, HOPPING, SESSION]
NAMES = ["tumbling", "tumbling by key", "hopping", "session"]


@pytest.mark.parametrize("window_", KINDS, ids=NAMES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SALES, DEATHS)
def test_whoever_dies_finals_are_right_and_told_once(
    window_: Window[Any], sales: list[Sale], deaths: list[tuple[int, bool, int]]
) -> None:
    async def run() -> Shop:
        shop = Shop(window_)
        shop.sell(*sales[: len(sales) // 2])
        for dies_at, disk_lost, batch in deaths[1:]:
            await shop.town.live(dies_at=dies_at, disk_lost=disk_lost, batch=batch)
        shop.sell(*sales[len(sales) // 2 :])
        await shop.town.live(batch=2)
        for dies_at, disk_lost, batch in deaths[:1]:
            await shop.close(dies_at=dies_at, disk_lost=disk_lost, batch=batch)
        await shop.close()
        return shop

    shop = asyncio.run(run())
    finals, late = expected(window_, shop.sales)
    assert shop.late() == late
    assert shop.finals() == finals
    per_sale = len(window_.spans(0))
    counted = sum(count for count, _ in finals.values()) + sum(missed for _, missed in late)
    assert counted == len(sales) * per_sale


@pytest.mark.long
@pytest.mark.parametrize("window_", [TUMBLING_BY_CUSTOMER, SESSION], ids=["tumbling by key", "session"])
def test_a_death_at_every_single_step(window_: Window[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """With one row a record, so that every going on is lived through as well."""
    monkeypatch.setattr("agents.windowing.CLOSED_PER_RECORD", 1)
    monkeypatch.setattr("agents.gathering.FINALS_PER_RECORD", 1)
    sales = [Sale(at, customer, 1) for at in (0, 1, 3, 40, 41, 2, 80) for customer in ("ann", "bob", "cid")]

    async def run(dies_at: int) -> tuple[int, Shop]:
        shop = Shop(window_)
        shop.sell(*sales)
        effects = await shop.town.live(dies_at=dies_at, batch=4, disk_lost=dies_at % 2 == 0)
        await shop.town.live()
        await shop.close()
        return effects, shop

    longest = 0
    for dies_at in range(1, 300):
        effects, shop = asyncio.run(run(dies_at))
        longest = max(longest, effects)
        assert (shop.finals(), shop.late()) == expected(window_, shop.sales)
        if effects < dies_at:
            break
    assert longest > 60, "the lives were too short to prove anything"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(SALES, st.integers(0, 200)), min_size=1, max_size=4),
    st.sampled_from([TUMBLING_BY_CUSTOMER, HOPPING, SESSION]),
    DEATHS,
)
def test_however_time_is_told_no_event_is_lost_or_counted_twice(
    phases: list[tuple[list[Sale], int]], window_: Window[Any], deaths: list[tuple[int, bool, int]]
) -> None:
    """Ticks come between the events, as early or late as they like: what is late then is luck, the sum is not."""

    async def run() -> Shop:
        shop, deaths_left = Shop(window_), list(deaths)
        for sales, at in phases:
            shop.sell(*sales)
            shop.tick(at)
            if deaths_left:
                dies_at, disk_lost, batch = deaths_left.pop()
                await shop.town.live(dies_at=dies_at, disk_lost=disk_lost, batch=batch)
            await shop.town.live()
            shop.tick(at + IDLE_S)
        await shop.close()
        return shop

    shop = asyncio.run(run())
    counted = sum(count for count, _ in shop.finals().values()) + sum(missed for _, missed in shop.late())
    assert counted == len(shop.sales) * len(window_.spans(0))
    assert sum(total for _, total in shop.finals().values()) <= sum(s.total for _, s in shop.sales) * len(
        window_.spans(0)
    )


def ids_of(partition: int, count: int) -> list[str]:
    return [id_ for n in range(100) if partition_of(id_ := f"x{n}", PARTITIONS) == partition][:count]


async def test_a_window_waits_for_a_partition_that_is_behind() -> None:
    """The others' watermark is no reason to do without it: its events would be lost."""
    shop = Shop(TUMBLING)
    (ahead, ahead_too), (behind, behind_too) = ids_of(0, 2), ids_of(1, 2)
    shop.send(ahead, Sale(1, "ann", 1))
    shop.send(behind, Sale(2, "ann", 1))
    shop.send(ahead_too, Sale(60, "ann", 1))
    await shop.town.live()
    assert shop.finals() == {}
    shop.send(behind_too, Sale(17, "bob", 1))
    await shop.town.live()
    assert shop.finals() == {(None, 0, 10): (2, Decimal(2))}


async def test_an_idle_partition_is_waited_for_as_long_as_was_said_and_no_longer() -> None:
    shop = Shop(TUMBLING)
    ahead, idle = ids_of(0, 1)[0], ids_of(1, 1)[0]
    shop.send(idle, Sale(1, "ann", 1))
    shop.send(ahead, Sale(100, "ann", 1))
    await shop.town.live()
    for at, final in (
        (5, False),
        (5 + IDLE_S - 1, False),
        (10 + GRACE_S + IDLE_S - 1, False),
        (10 + GRACE_S + IDLE_S, True),
    ):
        assert shop.tick(at)
        await shop.town.live(disk_lost=True)
        assert ((None, 0, 10) in shop.finals()) is final, at


async def test_a_partition_without_a_single_event_holds_nobody_up() -> None:
    shop = Shop(SESSION)
    shop.send(ids_of(0, 1)[0], Sale(1, "ann", 3))
    await shop.town.live()
    await shop.close()
    assert shop.finals() == {("ann", 1, 1 + GAP_S): (1, Decimal(3))}


async def test_an_event_after_an_idle_time_is_late_and_kept_whole() -> None:
    shop = Shop(TUMBLING)
    first, late = ids_of(1, 2)
    shop.send(first, Sale(1, "ann", 1))
    await shop.town.live()
    await shop.close()
    shop.send(late, Sale(2, "bob", 4))
    await shop.town.live()
    assert shop.late() == [(late, 1)]
    (record,) = shop._records(TOPICS.late("tested"))
    assert (record.key, dict(record.headers)["window"]) == (late.encode(), b"tested")
    assert json.loads(record.value)["data"]["total"] == "4"
    assert shop.finals() == {(None, 0, 10): (1, Decimal(1))}


async def test_an_event_from_the_future_makes_no_other_late() -> None:
    """A shop whose clock is a year ahead: its own window waits for that year, the others' do not."""
    shop = Shop(TUMBLING)
    mad, sane = ids_of(0, 2)
    day_s = 86_400
    shop.send(mad, Sale(365 * day_s, "ann", 1))
    shop.send(sane, Sale(day_s + 60, "ann", 1))
    await shop.town.live()
    assert shop.late() == []
    assert BEGIN < _source_time(shop, 0).watermark < BEGIN + 2 * day_s * 1000


def _source_time(shop: Shop, partition: int) -> SourceTime:
    raw = shop.town.stores(windowing_name(shop.window), partition).get(SOURCE_TIME.prefix + ONLY)
    shop.town.stores.crash()
    assert raw is not None
    found: SourceTime = SOURCE_TIME.decode(raw)
    return found


def _buckets(shop: Shop) -> dict[tuple[int, str | None], int]:
    table = partials_of(shop.window)
    found: dict[tuple[int, str | None], int] = defaultdict(int)
    for number in range(PARTITIONS):
        for _, raw in shop.town.stores(windowing_name(shop.window), number).scan(table.prefix):
            figure = table.decode(raw)
            found[(figure.start - BEGIN) // 1000, figure.key] += figure.row.count
    shop.town.stores.crash()
    return dict(found)


async def test_a_sliding_window_keeps_its_buckets_while_they_can_be_asked_for() -> None:
    shop = Shop(SLIDING)
    shop.sell(Sale(1.999, "ann", 1), Sale(2, "ann", 1), Sale(2.5, "bob", 1))
    await shop.town.live()
    assert _buckets(shop) == {(1, "ann"): 1, (1, None): 1, (2, "ann"): 1, (2, "bob"): 1, (2, None): 2}
    await shop.close()
    assert (_buckets(shop), shop.late()) == ({}, [])


async def test_an_event_as_late_as_the_grace_is_not_late_and_a_millisecond_more_is() -> None:
    shop = Shop(SESSION)
    newest, just, late = ids_of(0, 3)
    shop.send(newest, Sale(50, "ann", 1))
    shop.send(just, Sale(50 - GRACE_S, "bob", 1))
    shop.send(late, Sale(50 - GRACE_S - 0.001, "cid", 1))
    await shop.town.live()
    assert shop.late() == [(late, 1)]
