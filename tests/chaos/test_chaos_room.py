"""The chaos room on a small stage: it finds nothing where a worker and a broker die, and finds what is really wrong."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from app.local.inspection import command_line
from app.runtime.topics import Topics
from chaos.load import Load
from chaos.probes import Probes
from chaos.reckoning import reckon
from chaos.run import Run
from chaos.schedule import Strike
from chaos.stage import PARTITIONS, Stage, StageBroken, alone_in
from loadtest.reading import read_topic
from tests.conftest import ROOT

SECONDS, RATE = 10.0, 12.0
STRIKES = [
    Strike(1.0, "worker-kill-9-at-commit", 1.0, 1),
    Strike(1.5, "broker-kill-9-leader", 2.0, 2),
    Strike(2.0, "poison-records", 0.0, 3),
]


@pytest.mark.long
@pytest.mark.timeout(180)
async def test_promises_are_kept_while_things_die_and_a_broken_one_would_be_seen(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "stage", ROOT / ".fleet" / "lib", random.Random(1), roles=("all",))
    load = Load(stage.settings, "r", 1, RATE, SECONDS)
    try:
        await stage.up(lambda text: None)
        await load.start()
        probes = Probes("r", stage.urls, PARTITIONS, load.ledger.now)
        run = Run(stage, load, probes, lambda text: None)
        await run.play(STRIKES)
        found = await reckon(stage.settings, stage.urls, "r", load.poison)
        told = [*stage.violations, *run.violations, *load.ledger.violations, *probes.violations, *found.violations]
        assert told == []
        assert [one.why_not for one in run.struck] == [None, None, None]
        assert all(one.recovery_ms is not None for one in run.struck)
        assert found.records > 1_000
        await _double_an_event(stage)
        load.ledger.sending("never sent", None, 0.0)
        load.ledger.acknowledged("never sent")
        load.ledger.close()
        assert load.ledger.violations == ["never sent was acknowledged, and has no outcome"]
        found = await reckon(stage.settings, stage.urls, "r", load.poison + 1)
        assert any(text.startswith("recount:") and "twice" in text for text in found.violations)
        assert any(text.startswith("audit:") for text in found.violations)
        assert any("poison" in text for text in found.violations)
    finally:
        await load.close()
        pids = stage.pids()
        await stage.close()
    assert len(pids) > 5
    assert [pid for pid in pids if command_line(pid)] == []


async def _double_an_event(stage: Stage) -> None:
    """What an engine does that is exactly-once in its documentation alone."""
    topic = Topics(stage.settings.topic_prefix).events("orders")
    async for raw in read_topic(stage.settings.brokers, topic, PARTITIONS):
        doubled = raw
    producer = AIOKafkaProducer(bootstrap_servers=stage.settings.brokers.split(","), acks="all")
    await producer.start()
    await producer.send_and_wait(topic, doubled.value, key=doubled.key, partition=doubled.partition)
    await producer.stop()


def test_a_second_run_does_not_clear_away_what_the_first_one_uses(tmp_path: Path) -> None:
    with alone_in(tmp_path / "run" / "chaos"):
        with pytest.raises(StageBroken, match="another run"), alone_in(tmp_path / "run" / "chaos"):
            pytest.fail("two at once")
        with alone_in(tmp_path / "run" / "other"):
            pass
    with alone_in(tmp_path / "run" / "chaos"):
        pass
