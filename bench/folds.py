"""`make folds`: what one event costs the agents that read orders, without Kafka: fold, encode, write to RocksDB."""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from app.catalogue import CATALOGUE
from app.runtime.agent import Agent
from app.runtime.batch import Batch
from app.runtime.folding import fold_round
from app.runtime.ports import Progress, TopicPartition
from app.runtime.settings import Settings
from app.runtime.shard import Shard
from app.runtime.simulated import SimulatedRecord
from app.runtime.topics import Topics
from bench.backlog import EVENTS_PER_ORDER, events
from tables.budget import RocksDBBudget
from tables.store import RocksDBStores

SETTINGS = Settings(role="reads", partitions=1, buckets=1)
SOURCE = TopicPartition(Topics().events("orders"), 0)
BATCH_RECORDS = 4_000


@click.command()
@click.option("--events", "count", default=100_000, show_default=True, type=click.IntRange(BATCH_RECORDS, 5_000_000))
@click.option("--runs", default=3, show_default=True, type=click.IntRange(1, 50))
def main(count: int, runs: int) -> None:
    """Fold the backlog of W1 into each agent of the role `reads` that reads orders. CPU of this process, medians."""
    now_ms = time.time_ns() // 1_000_000
    records = [
        SimulatedRecord(SOURCE.topic, 0, offset, key.encode(), value, now_ms, ())
        for offset, (key, value) in enumerate(events(count // EVENTS_PER_ORDER))
    ]
    starts = range(0, len(records), BATCH_RECORDS)
    batches = [
        Batch(SOURCE, records[at : at + BATCH_RECORDS], 0, at, min(at + BATCH_RECORDS, len(records))) for at in starts
    ]
    agents = [agent for agent in CATALOGUE.agents(SETTINGS) if SOURCE.topic in agent.sources]
    for batch in batches:
        batch.messages(agents[0].decode_of(SOURCE.topic))  # once for all agents, as in a worker
    gc.freeze()
    gc.set_threshold(100_000, 50, 1_000)
    table = Table("agent", "CPU µs/event", "rows/event")
    for agent in agents:
        measured = [_fold(agent, batches, len(records)) for _ in range(runs)]
        cpu_us = statistics.median(cpu for cpu, _ in measured)
        table.add_row(agent.name, f"{cpu_us:.2f}", f"{measured[0][1]:.2f}")
    Console().print(table)


def _fold(agent: Agent, batches: Sequence[Batch], count: int) -> tuple[float, float]:
    """CPU in µs and changed rows, for each event."""
    with tempfile.TemporaryDirectory() as directory:
        stores = RocksDBStores(Path(directory), RocksDBBudget.of(SETTINGS, stores=1))
        store = stores(agent.name, 0)
        shard, rows = Shard(agent, 0, store), 0
        began = time.process_time()
        for batch in batches:
            folded = fold_round(shard, [(batch, batch.start)], "dead.letters")
            changes = dict(folded.unit.changes())
            store.write(changes, Progress(batch.end, "log", 1))
            rows += len(changes)
        cpu_s = time.process_time() - began
        store.close()
    return cpu_s / count * 1e6, rows / count


if __name__ == "__main__":
    main()
