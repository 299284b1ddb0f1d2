"""The bus over Redis' publish and subscribe: reaches every process, keeps nothing, so at most once.

A connection that is lost, or silent where it should answer, is made anew with a growing back-off. What is published in
between is not heard: whoever needs to know asks the views again.

Redis has no groups for this: the members of one agree among themselves. The first that claims an ordering key has its
events for as long as it keeps the claim alive, and every event is claimed once. The events of a member that dies are
lost until its claim has run out (`CLAIM_S`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
import uuid
import zlib
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.maint_notifications import MaintNotificationsConfig

from app.buses.contract import (
    PARALLEL_MAX,
    PUBLISH_TIMEOUT_S,
    STOP_TIMEOUT_S,
    WAITING_MAX,
    BusStats,
    Handler,
    Report,
    Subscription,
    Subscriptions,
    report_to_log,
)
from app.buses.delivery import Admit, Delivery
from app.buses.event import BusEvent, decode, encode, in_sequence
from app.kernel.errors import BusUnavailable, UndecodableMessage
from app.runtime.background import Background
from app.runtime.clock import SystemClock

log = logging.getLogger(__name__)

ANSWER_TIMEOUT_S = 2.0
QUIET_S = 2.0
"""A connection on which nothing came for so long is asked whether it lives."""
BACKOFF_S_MIN, BACKOFF_S_MAX = 0.05, 2.0
CONNECTIONS_MAX = 4 * PARALLEL_MAX
CLAIM_S = 3.0
COURTESY_S = 0.02
CLAIMED_S = 60.0
"""How long it is remembered that an event was claimed. One that has waited for half of it is dropped."""

CLAIM = """
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[3])
return 1
"""

RENEW = """
local renewed = 0
for _, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[1] then renewed = renewed + redis.call('PEXPIRE', key, ARGV[2]) end
end
return renewed
"""
RENEWED_AT_ONCE_MAX = 500

OUTAGE = (RedisError, OSError, TimeoutError)


class RedisBus:
    """See the contract. `channel` is where all events of this bus go; `url` is `redis://host:port/database`."""

    def __init__(
        self, url: str, channel: str, *, waiting_max: int = WAITING_MAX, report: Report = report_to_log
    ) -> None:
        self.stats = BusStats()
        self._channel = channel
        self._waiting_max = waiting_max
        self._report = report
        self._me = uuid.uuid4().hex
        self._redis: Any = Redis.from_url(
            url,
            socket_timeout=ANSWER_TIMEOUT_S,
            socket_connect_timeout=ANSWER_TIMEOUT_S,
            max_connections=CONNECTIONS_MAX,
            retry=Retry(NoBackoff(), 0),  # a repeated publication would be a second one
            # With them on, redis-py 8 hands out pooled connections without looking whether the server closed them.
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
        )
        self._claim, self._renew = self._redis.register_script(CLAIM), self._redis.register_script(RENEW)
        self._subscriptions = Subscriptions()
        self._deliveries: list[Delivery] = []
        self._mine: dict[str, float] = {}  # keys that were claimed here, and when
        self._background = Background(SystemClock())
        self._hears = False

    @property
    def listening(self) -> bool:
        """Whether the connection stands; a bus without subscriptions has none to hear with."""
        return self._hears

    def subscribe(self, handler: Handler, types: Iterable[str] = (), *, group: str | None = None) -> None:
        """See the contract."""
        self._subscriptions.add(handler, types, group)

    async def publish(self, *events: BusEvent) -> None:
        """See the contract."""
        self._subscriptions.check_started()
        if not events:
            return
        pipeline = self._redis.pipeline(transaction=False)  # one connection: the order holds
        for event in events:
            pipeline.publish(self._channel, encode(event))
        try:
            async with asyncio.timeout(PUBLISH_TIMEOUT_S):
                await pipeline.execute()
        except OUTAGE as error:
            raise BusUnavailable(f"Redis did not take {len(events)} events: {error!r}") from error
        self.stats.published += len(events)

    async def publish_in_sequence(self, events: Sequence[BusEvent], key: str | None = None) -> None:
        """See the contract."""
        await self.publish(*in_sequence(events, key))

    async def start(self) -> None:
        """See the contract."""
        subscriptions = self._subscriptions.begin()
        self._deliveries = [
            Delivery(
                subscription,
                self.stats,
                self._report,
                admit=None if subscription.group is None else self._admit_for(subscription),
                waiting_max=self._waiting_max,
                age_s_max=None if subscription.group is None else CLAIMED_S / 2,
            )
            for subscription in subscriptions
        ]
        if self._deliveries:
            self._background.keep("hearing Redis", self._hear)
        if any(subscription.group is not None for subscription in subscriptions):
            self._background.keep("keeping claims in Redis", self._keep_claims)

    async def stop(self) -> None:
        """See the contract."""
        self._subscriptions.end()
        self._hears = False
        await asyncio.gather(*(delivery.close(STOP_TIMEOUT_S) for delivery in self._deliveries))
        await self._background.stop()
        with contextlib.suppress(*OUTAGE):
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._redis.aclose()

    # Hearing

    async def _hear(self) -> None:
        backoff_s = BACKOFF_S_MIN
        while True:
            try:
                async with self._subscribed() as heard:
                    backoff_s = BACKOFF_S_MIN
                    while True:
                        await self._next(heard)
            except OUTAGE as error:
                if self._hears:
                    log.warning("the bus has lost Redis and connects again: %r", error)
                    self.stats.reconnects += 1
            finally:
                self._hears = False
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))
            backoff_s = min(2 * backoff_s, BACKOFF_S_MAX)

    @contextlib.asynccontextmanager
    async def _subscribed(self) -> AsyncIterator[Any]:
        heard = self._redis.pubsub()
        try:
            await heard.subscribe(self._channel)
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                while (message := await heard.get_message(timeout=ANSWER_TIMEOUT_S)) is None:
                    pass
            log.info("the bus hears %s (%s)", self._channel, message["type"])
            self._hears = True
            yield heard
        finally:
            with contextlib.suppress(*OUTAGE):
                await heard.aclose()

    async def _next(self, heard: Any) -> None:
        """Take the next message; where none comes, find out whether the connection lives."""
        message = await heard.get_message(timeout=QUIET_S)
        if message is None:
            await heard.ping()
            message = await heard.get_message(timeout=ANSWER_TIMEOUT_S)
            if message is None:
                raise TimeoutError(f"Redis is silent for {ANSWER_TIMEOUT_S:g} s")
        if message["type"] == "message":
            self._offer(message["data"])

    def _offer(self, raw: bytes) -> None:
        try:
            event = decode(raw)
        except UndecodableMessage as error:
            self.stats.dropped += 1
            log.warning("%s: %s", self._channel, error)
            return
        for delivery in self._deliveries:
            if delivery.subscription.wants(event):
                delivery.offer(event)

    # Groups

    def _admit_for(self, subscription: Subscription) -> Admit:
        async def admit(event: BusEvent) -> bool:
            claimed = f"{self._group_key(subscription)}:event:{event.type}:{event.id}"
            lane = self._lane_key(subscription, event.ordered_by)
            if lane not in self._mine:
                await asyncio.sleep(self._courtesy_s(lane))
            try:
                mine = bool(await self._claim([lane, claimed], [self._me, int(CLAIM_S * 1000), int(CLAIMED_S * 1000)]))
            except OUTAGE as error:
                log.warning("%s: %s is dropped, for it cannot be claimed: %r", subscription.name, event.id, error)
                self.stats.dropped += 1
                return False
            if mine:
                self._mine[lane] = time.monotonic()
            else:
                self._mine.pop(lane, None)
            return mine

        return admit

    def _courtesy_s(self, lane: str) -> float:
        """Members wait a moment, each its own for each key, so that the keys are shared and not the fastest one's."""
        return zlib.crc32(f"{self._me}{lane}".encode()) / 2**32 * COURTESY_S

    def _group_key(self, subscription: Subscription) -> str:
        return f"{{{self._channel}:{subscription.group}}}"  # in braces: a cluster keeps a group's keys on one node

    def _lane_key(self, subscription: Subscription, lane: str) -> str:
        return f"{self._group_key(subscription)}:lane:{lane}"

    async def _keep_claims(self) -> None:
        """Keep the claims on the keys whose events wait or are being handled here."""
        while True:
            await asyncio.sleep(CLAIM_S / 3)
            since = time.monotonic() - CLAIM_S
            self._mine = {lane: at for lane, at in self._mine.items() if at > since}
            for delivery in self._deliveries:
                if delivery.subscription.group is not None:
                    await self._keep(delivery)

    async def _keep(self, delivery: Delivery) -> None:
        held = [self._lane_key(delivery.subscription, lane) for lane in delivery.lanes]
        try:
            for first in range(0, len(held), RENEWED_AT_ONCE_MAX):
                await self._renew(held[first : first + RENEWED_AT_ONCE_MAX], [self._me, int(CLAIM_S * 1000)])
        except OUTAGE as error:
            log.info("claims could not be kept alive: %r", error)
