"""What a node of a local Kafka is told."""

from __future__ import annotations

from pathlib import Path

from app.local.node import CLIENTS, CONTROLLER, Listener, Node, several, single
from app.runtime.kafka.admin import durable


def test_a_single_node_keeps_one_replica_of_everything() -> None:
    told = single(29092).settings(Path("/data"))
    assert told["listeners"] == "PLAINTEXT://127.0.0.1:29092,CONTROLLER://127.0.0.1:29093"
    assert told["controller.quorum.voters"] == "1@127.0.0.1:29093"
    assert told["transaction.state.log.replication.factor"] == told["transaction.state.log.min.isr"] == 1


def test_three_nodes_share_a_quorum_and_keep_two_replicas_in_sync() -> None:
    nodes = several(21700)
    assert sorted(port for node in nodes for port in node.ports) == list(range(21700, 21706))
    for node in nodes:
        told = node.settings(Path("/data"))
        assert told["controller.quorum.voters"] == "1@127.0.0.1:21701,2@127.0.0.1:21703,3@127.0.0.1:21705"
        assert told["offsets.topic.replication.factor"] == told["transaction.state.log.replication.factor"] == 3
        assert told["min.insync.replicas"] == told["transaction.state.log.min.isr"] == 2


def test_others_are_told_of_what_stands_between() -> None:
    listeners = (Listener(CLIENTS, 1, told=7), Listener("PEERS", 2), Listener(CONTROLLER, 3, told=9))
    told = Node(1, listeners, ((1, 9),), peers="PEERS").settings(Path("/data"))
    assert told["listeners"] == "PLAINTEXT://127.0.0.1:1,PEERS://127.0.0.1:2,CONTROLLER://127.0.0.1:3"
    assert told["advertised.listeners"] == "PLAINTEXT://127.0.0.1:7,PEERS://127.0.0.1:2,CONTROLLER://127.0.0.1:9"
    assert told["inter.broker.listener.name"] == "PEERS"


def test_topics_with_replicas_acknowledge_what_a_majority_has() -> None:
    assert [durable(replication).get("min.insync.replicas") for replication in (1, 2, 3, 5)] == [None, None, "2", "3"]
