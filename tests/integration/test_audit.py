"""The auditor on a real fleet: clean after real orders, and dirty once something is wrong on the real topics."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from typing import Any

import aiohttp

from app.audit.running import audit_once
from app.local.ports import free_ports
from app.runtime.kafka.sender import RecordSender
from app.runtime.ports import TopicPartition
from app.runtime.topics import Topics, partition_of
from loadtest.customers import population
from loadtest.drive import drive, run_name
from loadtest.schedule import schedule
from tests.conftest import ROOT
from tests.integration.fleet import TestedFleet

ORDERS = 40
TIMEOUT_S = 30.0


def fleet_audit(fleet: TestedFleet, *arguments: str) -> tuple[int, str]:
    """`fleet audit`, as people run it: its exit code and what it says."""
    s = fleet.settings
    done = subprocess.run(
        [sys.executable, "-m", "app.cli.main", "audit", "--brokers", s.brokers, "--patience", "3", *arguments],
        cwd=ROOT,
        env={**os.environ, "FLEET_TOPIC_PREFIX": s.topic_prefix, "COLUMNS": "160"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout + done.stderr


async def test_a_real_fleet_is_audited_while_it_works_and_afterwards_and_a_forged_event_is_found(
    fleet: TestedFleet,
) -> None:
    one = fleet.worker("one")
    await fleet.up(one)
    s, topics = fleet.settings, Topics(fleet.settings.topic_prefix)
    due = schedule(list(population(run_name(), ORDERS, seed=3)), 30)
    driving = asyncio.create_task(drive(due, s, [one.url]))
    await asyncio.sleep(1)
    while_working = await audit_once(s.brokers, s.topic_prefix)
    assert while_working.ok, while_working.as_json()
    assert not (await driving).mismatches
    audit = await audit_once(s.brokers, s.topic_prefix)
    assert (audit.ok, audit.in_flight) == (True, 0), audit.as_json()
    checked = {verdict.name: verdict.checked for verdict in audit.verdicts}
    assert checked["orders-equal-events"] >= ORDERS
    assert checked["versions-contiguous"] > ORDERS
    code, told = await asyncio.to_thread(fleet_audit, fleet)
    assert (code, "OK: every promise was kept" in told) == (0, True), told

    with Follower(fleet) as following:
        await following.until("eventfleet_audit_ok 1.0")
        order_id, event = f"{run_name()}-forged", {"order_id": "x"}
        forged: dict[str, Any] = {
            "specversion": "1.0",
            "id": "forged",
            "type": "order.shipped.v1",
            "source": "/nobody",
            "subject": order_id,
            "time": "2026-01-01T00:00:00Z",
            "version": 2,
            "correlationid": "forged",
            "causationid": "nothing",
            "data": event | {"tracking_number": "t", "customer_id": "c"},
        }
        sender = RecordSender(s.brokers)
        partition = TopicPartition(topics.events("orders"), partition_of(order_id, s.partitions))
        await sender.send(partition, order_id.encode(), json.dumps(forged).encode())
        await sender.close()
        code, told = await asyncio.to_thread(fleet_audit, fleet, "--json")
        verdict = json.loads(told)
        broken = {one["name"] for one in verdict["invariants"] if one["violations"]}
        assert (code, verdict["ok"]) == (1, False)
        assert {"versions-contiguous", "outcomes-claim-events", "causes-exist"} <= broken
        await following.until("eventfleet_audit_ok 0.0")
        await following.until('eventfleet_audit_violations{invariant="versions-contiguous"} 1.0')
        assert following.stop() == 1


class Follower:
    """`fleet audit --follow --port`, as a process of its own."""

    def __init__(self, fleet: TestedFleet) -> None:
        self._port = free_ports(2)
        command = ["audit", "--brokers", fleet.settings.brokers, "--follow", "--every", "0.5", "--patience", "2"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "app.cli.main", *command, "--port", str(self._port)],
            cwd=ROOT,
            env={**os.environ, "FLEET_TOPIC_PREFIX": fleet.settings.topic_prefix},
            stdout=subprocess.DEVNULL,
        )

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    async def until(self, line: str) -> None:
        """Wait until the metrics have the line."""
        lines: list[str] = []
        try:
            async with asyncio.timeout(TIMEOUT_S), aiohttp.ClientSession() as session:
                while line not in lines:
                    await asyncio.sleep(0.1)
                    try:
                        async with session.get(f"http://127.0.0.1:{self._port}/metrics") as got:
                            lines = (await got.text()).splitlines()
                    except aiohttp.ClientError:
                        assert self._process.poll() is None, "it has ended"
        except TimeoutError:
            raise AssertionError(f"{line} is not among {lines}") from None

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self._process.terminate()
        return self._process.wait(TIMEOUT_S)


def test_what_cannot_be_audited_has_no_verdict(fleet: TestedFleet) -> None:
    code, told = fleet_audit(fleet, "--brokers", "127.0.0.1:1")
    assert (code, "Not audited: no Kafka answers" in told) == (2, True), told
