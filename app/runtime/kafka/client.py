"""aiokafka's producer, with two things mended that an engine cannot live with."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import aiokafka.producer.sender as aiokafka_sender
from aiokafka import AIOKafkaProducer
from aiokafka.errors import ProducerClosed
from aiokafka.producer.sender import Sender
from aiokafka.producer.transaction_manager import TransactionState

from app.runtime.kafka.connection import Connection

# aiokafka waits this long, in seconds, when the broker is still writing the markers of the transaction before. They
# are written within a millisecond or two: at its own 20 ms a pipeline could commit hardly 50 times a second.
aiokafka_sender.BACKOFF_OVERRIDE = MARKERS_PAUSE_S = 0.002
MARKERS_PAUSE_S_MAX = 0.032
"""With several busy brokers markers take a hundred times as long, and to ask all the time makes it longer still."""

BATCH_BYTES_MAX = 512 << 10
REQUEST_BYTES_MAX = 2 << 20
"""Room for a dead letter: a whole record of 1 MiB with its cause."""


class TrackedSender(Sender):
    """A sender that knows the tasks it has started: some of them retry without an end while no broker answers."""

    requests: set[asyncio.Task[Any]]
    again_after_s: float
    """The pause before a transaction that could not begin yet is begun again."""

    @classmethod
    def in_place_of(cls, sender: Sender) -> TrackedSender:
        """The same sender, not yet started, tracked."""
        tracked = cls.__new__(cls)
        vars(tracked).update(vars(sender), requests=set(), again_after_s=0.0)
        return tracked

    def tasks_under_way(self) -> set[asyncio.Task[Any]]:
        """The requests that wait for an answer or a retry, and the task that starts them."""
        started = self.requests | ({self._sender_task} if self._sender_task is not None else set())
        return {task for task in started if not task.done()}

    def _maybe_do_transactional_request(self) -> asyncio.Task[Any] | None:
        task: asyncio.Task[Any] | None = super()._maybe_do_transactional_request()
        if task is not None:
            self._remember(task)
        return task

    async def _do_add_partitions_to_txn(self, tps: Any) -> bool:
        added: bool = await super()._do_add_partitions_to_txn(tps)
        pause_s = self.again_after_s
        self.again_after_s = 0.0 if added else min(max(2 * pause_s, MARKERS_PAUSE_S), MARKERS_PAUSE_S_MAX)
        if not added:
            await asyncio.sleep(pause_s)  # beside aiokafka's own, so none the first time
        return added

    async def _send_produce_req(self, node_id: int, batches: Any) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._remember(task)
        await super()._send_produce_req(node_id, batches)

    def _remember(self, task: asyncio.Task[Any]) -> None:
        self.requests.add(task)
        task.add_done_callback(self.requests.discard)


class EndableProducer(AIOKafkaProducer):
    """A producer that can be ended at any time, with nothing of it left behind."""

    def __init__(self, **options: Any) -> None:
        super().__init__(acks="all", linger_ms=0, **options)
        self._sender = self._tracked = TrackedSender.in_place_of(self._sender)

    @property
    def gone(self) -> bool:
        """Whether its sender has died: then every record fails at once, for ever."""
        task = self._tracked._sender_task
        return task is not None and task.done()

    async def end(self, timeout_s: float) -> None:
        """Drop everything that waits and let the connections go.

        aiokafka's own `stop` first delivers what waits, however long the brokers are away.
        """
        self._closed = True
        waiting = self._message_accumulator
        for batch in [
            *(batch for batches in waiting._batches.values() for batch in batches),
            *waiting._pending_batches,
        ]:
            batch.failure(ProducerClosed())  # whoever waits for it is told, and not cancelled himself
        await self._end_tasks(timeout_s / 2)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s / 2):
                await self.client.close()

    async def _end_tasks(self, timeout_s: float) -> None:
        tasks = self._tracked.tasks_under_way()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)
        for task in tasks:
            if task.done() and not task.cancelled():
                task.exception()


class TransactionalClient(EndableProducer):
    """One transactional id's producer."""

    def __init__(self, connection: Connection, transactional_id: str) -> None:
        super().__init__(
            transactional_id=transactional_id,
            transaction_timeout_ms=connection.transaction_timeout_ms,
            max_batch_size=BATCH_BYTES_MAX,
            max_request_size=REQUEST_BYTES_MAX,
            **connection.client_options,
        )

    @property
    def dead(self) -> bool:
        """Whether the producer was fenced or has failed for good: nothing but `end` is left to do."""
        return bool(self._txn_manager.is_fatal_error())

    @property
    def in_transaction(self) -> bool:
        """Whether there is something to abort."""
        return self._txn_manager.state in (TransactionState.IN_TRANSACTION, TransactionState.ABORTABLE_ERROR)
