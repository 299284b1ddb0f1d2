"""The tree of one correlation id: which command led to which events, and these to which commands, across aggregates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec
from rich.text import Text
from rich.tree import Tree

from app.runtime.codec import ACCEPTED, REJECTED, CloudEvent
from app.runtime.kafka.admin import list_topics
from app.runtime.kafka.cluster import KafkaCluster
from app.runtime.ports import Record, TopicPartition

_decode = msgspec.json.Decoder(CloudEvent).decode


@dataclass
class Node:
    """One message and what it led to. `outcome` is a command's, in words."""

    message: CloudEvent
    outcome: str = ""
    children: list[Node] = field(default_factory=list)


async def read_correlated(brokers: str, topics: Sequence[str], correlation_id: str) -> list[CloudEvent]:
    """Every settled message of the topics that belongs to the correlation id, up to the topics' present ends."""
    counts = await list_topics(brokers)
    partitions = [TopicPartition(topic, n) for topic in topics for n in range(counts.get(topic, 0))]
    found: list[CloudEvent] = []
    async with KafkaCluster(brokers).reader() as reader:
        bounds = await reader.bounds(partitions)
        starts = {partition: bound.begin for partition, bound in bounds.items()}
        ends = {partition: bound.end for partition, bound in bounds.items()}
        async for chunk in reader.read(starts, ends):
            found += correlated(chunk.records, correlation_id)
    return found


def correlated(records: Iterable[Record], correlation_id: str) -> list[CloudEvent]:
    """Those of the records that belong to the correlation id: by its name, or as the command that began it."""
    found, mark = [], correlation_id.encode()
    for record in records:
        if record.value is None or mark not in record.value:
            continue
        try:
            message = _decode(record.value)
        except msgspec.DecodeError:
            continue  # it lies in the dead letters, and has no place in a tree
        if correlation_id in (message.correlationid, message.id):
            found.append(message)
    return found


def grow(messages: Iterable[CloudEvent]) -> list[Node]:
    """The trees: roots are messages whose cause is not among them. A repeated command stands once."""
    nodes: dict[str, Node] = {}
    outcomes: list[CloudEvent] = []
    for message in messages:
        if message.type in (ACCEPTED, REJECTED):
            outcomes.append(message)
        else:
            nodes.setdefault(message.id, Node(message))
    for outcome in outcomes:
        if (node := nodes.get(outcome.causationid or "")) is not None:
            node.outcome = _in_words(outcome)
    roots: list[Node] = []
    for node in nodes.values():
        parent = nodes.get(node.message.causationid or "")
        (roots if parent is None else parent.children).append(node)
    return roots


def _in_words(outcome: CloudEvent) -> str:
    rejected = msgspec.json.decode(outcome.data).get("rejected")
    return f"rejected: {rejected['message']}" if rejected else f"accepted, version {outcome.version}"


def show(roots: Sequence[Node], correlation_id: str) -> Tree:
    """The trees for a terminal."""
    tree = Tree(Text(correlation_id, style="bold"))
    for root in roots:
        _add(tree, root)
    return tree


def _add(tree: Tree, node: Node) -> None:
    message = node.message
    text = Text(f"{message.time:%H:%M:%S.%f}"[:-3], style="dim")
    text.append(f"  {message.type}  ", style="bold")
    text.append(message.subject)
    if message.version is not None:
        text.append(f" @{message.version}")
    if node.outcome:
        text.append(f"  {node.outcome}", style="red" if node.outcome.startswith("rejected") else "green")
    branch = tree.add(text)
    for child in sorted(node.children, key=lambda one: (one.message.time, one.message.id)):
        _add(branch, child)
