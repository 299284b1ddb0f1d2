"""`python -m bench --peers us,floor --workloads W1 --events 300000 --json b.jsonl`"""

from __future__ import annotations

import asyncio
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from app.catalogue import CATALOGUE
from app.kernel.errors import FleetError
from app.local.kafka import LocalKafka
from app.local.ports import free_ports
from app.runtime.kafka.admin import ensure_topics
from app.runtime.kafka.cluster import KafkaCluster
from app.runtime.ports import TopicPartition
from app.runtime.settings import Settings
from app.runtime.topics import COMPACTED, Topic, Topics
from bench import backlog, us
from bench.measured import Measured

PARTITIONS = 4
FLOOR_TOPIC = "floor.rows"
EVENTS_MAX = 5_000_000
FLOOR_TIMEOUT_S = 600.0

Peer = Callable[[LocalKafka, Path, dict[TopicPartition, int], int], Measured]


def run_floor(kafka: LocalKafka, directory: Path, ends: dict[TopicPartition, int], events: int) -> Measured:
    """The floor, in a process of its own (see `bench.floor`)."""
    broker_cpu = kafka.cpu_seconds()
    source = next(iter(ends)).topic
    done = subprocess.run(
        [sys.executable, "-m", "bench.floor", kafka.brokers, source, FLOOR_TOPIC, str(PARTITIONS)],
        check=True,
        capture_output=True,
        text=True,
        timeout=FLOOR_TIMEOUT_S,
    )
    told = json.loads(done.stdout)
    checked = told["events"] == events
    broker_cpu = kafka.cpu_seconds() - broker_cpu
    return Measured("floor", "W1", events, told["seconds"], told["cpu_s"], told["rss_mb"], broker_cpu, checked)


PEERS: dict[str, Peer] = {"us": us.run_w1, "floor": run_floor}
WORKLOADS = ("W1",)


@click.command()
@click.option("--peers", default="us,floor", show_default=True, help=f"Any of {', '.join(PEERS)}.")
@click.option("--workloads", default="W1", show_default=True, help=f"Any of {', '.join(WORKLOADS)}.")
@click.option("--events", default=300_000, show_default=True, type=click.IntRange(4, EVENTS_MAX))
@click.option("--runs", default=3, show_default=True, type=click.IntRange(1, 50), help="Runs of each peer, in turn.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Append one JSON line per run.")
def main(peers: str, workloads: str, events: int, runs: int, json_file: Path | None) -> None:
    """Time the peers on the same backlog, one after the other, on a fresh Kafka each."""
    chosen = _chosen("peers", peers, tuple(PEERS))
    _chosen("workloads", workloads, WORKLOADS)
    results: list[Measured] = []
    try:
        for number in range(runs):
            for peer in chosen:
                click.echo(f"run {number + 1}/{runs}: {peer} …", err=True)
                results.append(_run(PEERS[peer], events))
                if json_file is not None:
                    with json_file.open("a") as out:
                        out.write(json.dumps(results[-1].line()) + "\n")
    except FleetError as error:
        raise click.ClickException(str(error)) from error
    _show(results)
    if not all(result.checked for result in results):
        raise click.ClickException("a peer's result is wrong: its figures do not count")


def _chosen(what: str, given: str, there: tuple[str, ...]) -> list[str]:
    chosen = [name.strip() for name in given.split(",")]
    if unknown := sorted(set(chosen) - set(there)):
        raise click.ClickException(f"unknown {what}: {', '.join(unknown)}; there are {', '.join(there)}")
    return chosen


def _run(peer: Peer, events: int) -> Measured:
    orders = max(1, events // backlog.EVENTS_PER_ORDER)
    directory = Path(tempfile.mkdtemp(prefix="eventfleet-bench-"))
    kafka = LocalKafka(directory / "kafka", free_ports(2), "full")
    kafka.start(with_parent=True)
    try:
        ends = asyncio.run(_prepare(kafka.brokers, orders))
        return peer(kafka, directory, ends, orders * backlog.EVENTS_PER_ORDER)
    finally:
        kafka.stop()
        shutil.rmtree(directory, ignore_errors=True)


async def _prepare(brokers: str, orders: int) -> dict[TopicPartition, int]:
    settings = Settings(brokers=brokers, partitions=PARTITIONS)
    topics = [*CATALOGUE.topics(settings), Topic(FLOOR_TOPIC, COMPACTED)]
    await ensure_topics(brokers, topics, PARTITIONS, 1)
    events = Topics().events("orders")
    await backlog.write(brokers, events, PARTITIONS, orders)
    async with KafkaCluster(brokers).reader() as reader:
        bounds = await reader.bounds([TopicPartition(events, number) for number in range(PARTITIONS)])
    return {partition: bound.end for partition, bound in bounds.items()}


def _show(results: list[Measured]) -> None:
    table = Table("workload", "peer", "runs", "events/s", "CPU µs/event", "broker CPU µs/event", "MB", "checked")
    medians: dict[str, float] = {}
    for peer in dict.fromkeys(result.peer for result in results):
        runs = [result for result in results if result.peer == peer]
        medians[peer] = statistics.median(run.cpu_us_per_event for run in runs)
        table.add_row(
            runs[0].workload,
            peer,
            str(len(runs)),
            f"{statistics.median(run.events_per_s for run in runs):,.0f}",
            f"{medians[peer]:.2f}",
            f"{statistics.median(run.broker_cpu_s / run.events * 1e6 for run in runs):.2f}",
            f"{statistics.median(run.rss_mb for run in runs):.0f}",
            "yes" if all(run.checked for run in runs) else "NO",
        )
    Console().print(table)
    if {"us", "floor"} <= medians.keys():
        Console().print(f"us / floor, CPU per event, medians: {medians['us'] / medians['floor']:.2f}")


if __name__ == "__main__":
    main()
