"""`python -m bench.recovery`: how fast a worker that has lost its disk restores its rows from the changelog."""

from __future__ import annotations

import asyncio
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from agents.indexing import indexing_name
from agents.projecting import projecting_name
from app.catalogue import CATALOGUE
from app.domain.order import ORDER
from app.kernel.errors import FleetError
from app.local.kafka import LocalKafka
from app.local.ports import free_ports
from app.projections.orders import ORDERS
from app.runtime.clock import SystemClock
from app.runtime.codec import Codec
from app.runtime.garbage import calm_the_garbage_collector
from app.runtime.kafka.admin import ensure_topics
from app.runtime.kafka.cluster import KafkaCluster
from app.runtime.opening import Opening, OpeningRules
from app.runtime.outbox import Outbox
from app.runtime.ports import TopicPartition
from app.runtime.settings import Settings
from app.runtime.shard import Shard
from app.runtime.stats import Restoring
from app.runtime.topics import Topics, partition_of
from bench import backlog
from loadtest.report import json_file
from tables.budget import RocksDBBudget
from tables.read_models import Projected, read_model_of
from tables.store import RocksDBStores

PARTITIONS = 4
ROWS_PER_TRANSACTION = 4_000
TRANSACTIONAL_ID = "bench-recovery"


@dataclass(frozen=True)
class Restored:
    """One run: `cpu_s` is that of the whole process, RocksDB's threads included."""

    agent: str
    rows: int
    seconds: float
    cpu_s: float


@click.command()
@click.option("--rows", default=500_000, show_default=True, type=click.IntRange(1_000, 10_000_000))
@click.option("--runs", default=3, show_default=True, type=click.IntRange(1, 20))
@click.option("--json", "file", type=click.Path(path_type=Path), callback=json_file)
def main(rows: int, runs: int, file: Path | None) -> None:
    """Fill the changelog of the order read model as its agent does, then restore it and the event index."""
    directory = Path(tempfile.mkdtemp(prefix="eventfleet-recovery-"))
    kafka = LocalKafka(directory / "kafka", free_ports(2), "full")
    try:
        kafka.start(with_parent=True)
        lines = asyncio.run(_measure(kafka.brokers, directory, rows, runs))
    except FleetError as error:
        raise click.ClickException(str(error)) from error
    finally:
        kafka.stop()
        shutil.rmtree(directory, ignore_errors=True)
    _show(lines)
    if file is not None:
        file.write_text("".join(json.dumps(asdict(line)) + "\n" for line in lines))


def _show(lines: Sequence[Restored]) -> None:
    table = Table("agent", "rows", "seconds", "rows per CPU second, median", "all")
    for agent in dict.fromkeys(line.agent for line in lines):
        runs = [line for line in lines if line.agent == agent]
        speeds = [round(line.rows / line.cpu_s) for line in runs]
        seconds = " ".join(f"{line.seconds:.2f}" for line in runs)
        told = " ".join(f"{speed:,}" for speed in speeds)
        table.add_row(agent, f"{runs[0].rows:,}", seconds, f"{statistics.median(speeds):,.0f}", told)
    Console().print(table)


async def _measure(brokers: str, directory: Path, rows: int, runs: int) -> list[Restored]:
    settings = Settings(brokers=brokers, partitions=PARTITIONS, data_dir=directory)
    await ensure_topics(brokers, CATALOGUE.topics(settings), PARTITIONS, 1)
    agents = {agent.name: agent for agent in CATALOGUE.agents(settings)}
    await _fill(brokers, rows)
    await backlog.write(brokers, Topics().events(ORDER.category), PARTITIONS, rows // backlog.EVENTS_PER_ORDER)
    lines = []
    for number in range(runs):
        for name in (projecting_name(ORDERS), indexing_name(ORDER.category)):
            shards = [Shard(agents[name], partition) for partition in range(PARTITIONS)]
            stores = RocksDBStores(directory / str(number), RocksDBBudget.of(settings, stores=PARTITIONS))
            lines.append(await _restore(brokers, shards, stores, settings))
            for shard in shards:
                shard.release()
    return lines


async def _restore(brokers: str, shards: list[Shard], stores: RocksDBStores, settings: Settings) -> Restored:
    async def nowhere(partition: TopicPartition) -> int | None:
        return None

    calm_the_garbage_collector()  # as a worker does
    cluster, restoring = KafkaCluster(brokers), Restoring()
    producer = cluster.producer(TRANSACTIONAL_ID)
    await producer.start()
    rules = OpeningRules(TRANSACTIONAL_ID, settings.buckets, Topics())
    began, cpu = time.perf_counter(), time.process_time()
    await Opening(cluster, stores, SystemClock(), rules, restoring).open(producer, shards, nowhere)
    restored = Restored(shards[0].agent.name, restoring.rows, time.perf_counter() - began, time.process_time() - cpu)
    await producer.close()
    await cluster.close()
    return restored


async def _fill(brokers: str, rows: int) -> None:
    """Every row in each of its versions, as folding the backlog writes them."""
    cluster = KafkaCluster(brokers)
    producer = cluster.producer(TRANSACTIONAL_ID)
    await producer.start()
    changelog = Topics().changelog(projecting_name(ORDERS))
    left = rows
    versions = _versions(rows)
    while left:
        outbox = Outbox(producer.new_batch)
        for _ in range(min(left, ROWS_PER_TRANSACTION)):
            key, row = next(versions)
            outbox.add_rows(TopicPartition(changelog, partition_of(key, PARTITIONS)), [(key, row)])
            left -= 1
        await outbox.produce(producer)
        await producer.commit()
    await producer.close()
    await cluster.close()


def _versions(rows: int) -> Iterator[tuple[bytes, bytes]]:
    table, codec = read_model_of(ORDERS), Codec(ORDER.events)
    seen: dict[str, Projected[object]] = {}
    for order_id, value in backlog.events(rows // backlog.EVENTS_PER_ORDER + 1):
        envelope = codec.decode(value)
        before = seen.pop(order_id, None)
        row = ORDERS.project(before.row if before else None, envelope)  # type: ignore[arg-type]
        version = envelope.version or 0
        now: Projected[object] = Projected(version, row)
        if version < backlog.EVENTS_PER_ORDER:
            seen[order_id] = now
        yield table.prefix + order_id.encode(), table.encode(now)


if __name__ == "__main__":
    main()
