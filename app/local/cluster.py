"""Several real Kafka nodes on this machine: what the loss of one broker costs can only be seen with three."""

from __future__ import annotations

import base64
import shutil
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from app.local.kafka import LocalKafka, Profile
from app.local.node import Node

STOP_TIMEOUT_S = 5.0


class LocalCluster:
    """Nodes with their data under `directory`/1, /2, …: three replicas, two in sync for every acknowledgement."""

    def __init__(
        self, directory: Path, nodes: Sequence[Node], profile: Profile = "light", lib: Path = Path(".fleet/lib")
    ) -> None:
        self.directory = directory.resolve()
        self.nodes = {
            node.node_id: LocalKafka(self.directory / str(node.node_id), profile=profile, lib=lib, node=node)
            for node in nodes
        }

    @property
    def brokers(self) -> str:
        """Bootstrap servers."""
        return ",".join(node.brokers for node in self.nodes.values())

    def start(self, *, with_parent: bool = False) -> None:
        """Start every node that does not run, all at once, and wait until each answers. Call it in a lasting thread."""
        self._format_alike()
        down = [node for node in self.nodes.values() if node.pid is None]
        for node in down:
            node.prepare()
        for node in down:
            node.launch(with_parent=with_parent)
        try:
            for node in down:
                node.wait()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop every node, all at once. Whoever is last has no majority to take leave of, and is not waited for."""
        with ThreadPoolExecutor(max_workers=len(self.nodes)) as at_once:
            list(at_once.map(lambda node: node.stop(STOP_TIMEOUT_S), self.nodes.values()))

    def _format_alike(self) -> None:
        """Format one node's storage and copy that: each `format` costs the start of a JVM."""
        new = [node for node in self.nodes.values() if not (node.directory / "data" / "meta.properties").exists()]
        if not new:
            return
        first, *others = new
        first.prepare()
        for node in others:
            copied = node.directory / "data"
            shutil.rmtree(copied, ignore_errors=True)
            shutil.copytree(first.directory / "data", copied)
            _rename(copied / "meta.properties", node.node.node_id)


def _rename(meta: Path, node_id: int) -> None:
    """Give copied storage an identity of its own: the node's id, and a directory id that no other has."""
    directory_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    own = {"node.id": str(node_id), "directory.id": directory_id}
    lines = [line for line in meta.read_text().splitlines() if line.partition("=")[0] not in own]
    meta.write_text("\n".join([*lines, *(f"{name}={value}" for name, value in own.items())]) + "\n")
