"""Three real brokers: topics with replicas, and one broker that dies without anybody losing anything."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from app.local.cluster import LocalCluster
from app.local.node import several
from app.local.ports import free_ports
from app.runtime.kafka.admin import ensure_topics
from app.runtime.kafka.cluster import KafkaCluster
from app.runtime.ports import TopicPartition
from app.runtime.topics import COMPACTED, Topic
from tests.conftest import ROOT


async def test_a_transaction_commits_with_one_broker_of_three_dead(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path, several(free_ports(6)), lib=ROOT / ".fleet" / "lib")
    kafka = KafkaCluster(cluster.brokers)
    try:
        cluster.start(with_parent=True)
        await ensure_topics(cluster.brokers, [Topic("log", COMPACTED)], 3, 3)
        producer = kafka.producer("id")
        await producer.start()
        dead = cluster.nodes[1].pid
        assert dead is not None
        os.kill(dead, signal.SIGKILL)
        async with asyncio.timeout(30):
            batches = {TopicPartition("log", number): producer.new_batch() for number in range(3)}
            for batch in batches.values():
                assert batch.append(b"key", b"value")
            offsets = await producer.produce(batches)
            await producer.commit()
        assert set(offsets.values()) == {0}
        await producer.close()
    finally:
        await kafka.close()
        await asyncio.to_thread(cluster.stop)
