"""What one Kafka node is told: where it listens, what it tells others of that, and who votes with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"
CLIENTS, CONTROLLER = "PLAINTEXT", "CONTROLLER"
REPLICATION = 3
MIN_ISR = 2

SETTINGS: dict[str, object] = {
    "process.roles": "broker,controller",
    "controller.listener.names": CONTROLLER,
    "auto.create.topics.enable": "false",
    "offsets.topic.num.partitions": 4,
    "transaction.state.log.num.partitions": 4,
    "share.coordinator.state.topic.num.partitions": 1,
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 1000,
    "num.network.threads": 2,
    "num.io.threads": 4,
    "log.cleaner.dedupe.buffer.size": 16 << 20,
    "log.segment.bytes": 256 << 20,
    "controlled.shutdown.enable": "true",
}

SEVERAL: dict[str, object] = {
    # A node that is killed or hangs holds up every acks=all that waits for it until the controller fences it.
    "broker.session.timeout.ms": 6_000,
    "broker.heartbeat.interval.ms": 1_000,
    "unclean.leader.election.enable": "false",
    "min.insync.replicas": MIN_ISR,
    "default.replication.factor": REPLICATION,
}


@dataclass(frozen=True)
class Listener:
    """A port that a node listens on. Others are told `told`, which is another one where something stands between."""

    name: str
    port: int
    told: int = 0

    @property
    def reached_at(self) -> int:
        """The port by which others come."""
        return self.told or self.port


@dataclass(frozen=True)
class Node:
    """One node, broker and controller in one process. `voters` are the ports of all controllers, by node id.

    The first listener is the one that clients are served at; `peers` names the one that brokers use among themselves.
    """

    node_id: int
    listeners: tuple[Listener, ...]
    voters: tuple[tuple[int, int], ...]
    peers: str = CLIENTS

    @property
    def port(self) -> int:
        """Where clients are served."""
        return self.listeners[0].port

    @property
    def ports(self) -> list[int]:
        """Every port that it listens on."""
        return [listener.port for listener in self.listeners]

    def settings(self, directory: Path) -> dict[str, object]:
        """The broker's settings, with its data under `directory`."""
        several = len(self.voters) > 1
        replication, min_isr = (REPLICATION, MIN_ISR) if several else (1, 1)
        listens = [f"{listener.name}://{HOST}:{listener.port}" for listener in self.listeners]
        tells = [f"{listener.name}://{HOST}:{listener.reached_at}" for listener in self.listeners]
        return {
            **SETTINGS,
            **(SEVERAL if several else {}),
            "node.id": self.node_id,
            "log.dirs": directory / "data",
            "listeners": ",".join(listens),
            "advertised.listeners": ",".join(tells),
            "listener.security.protocol.map": ",".join(f"{one.name}:PLAINTEXT" for one in self.listeners),
            "inter.broker.listener.name": self.peers,
            "controller.quorum.voters": ",".join(f"{node}@{HOST}:{port}" for node, port in self.voters),
            "offsets.topic.replication.factor": replication,
            "transaction.state.log.replication.factor": replication,
            "transaction.state.log.min.isr": min_isr,
            "share.coordinator.state.topic.replication.factor": replication,
            "share.coordinator.state.topic.min.isr": min_isr,
        }


def single(port: int) -> Node:
    """The only node of a cluster; it takes the port after `port` too."""
    return Node(1, (Listener(CLIENTS, port), Listener(CONTROLLER, port + 1)), ((1, port + 1),))


def several(first_port: int, count: int = REPLICATION) -> Sequence[Node]:
    """The nodes of a cluster, on `2 * count` ports from `first_port` on."""
    ports = {number: first_port + 2 * (number - 1) for number in range(1, count + 1)}
    voters = tuple((number, port + 1) for number, port in ports.items())
    return [
        Node(number, (Listener(CLIENTS, port), Listener(CONTROLLER, port + 1)), voters)
        for number, port in ports.items()
    ]
