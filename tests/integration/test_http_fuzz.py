"""The HTTP API under fuzz: whatever comes in, no crash, no error of ours, nothing lost, and answers as described.

`make fuzz` does the same for longer, each time with another seed.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from app.audit.running import audit_once
from tests.conftest import ROOT
from tests.integration.fleet import TestedFleet

HERE = Path(__file__).parent
SECONDS = os.environ.get("FUZZ_SECONDS")
SEED = os.environ.get("FUZZ_SEED", "1")
EXAMPLES = 4
WAIT_MS = "200"
"""Whoever waits for a version that never comes, as fuzz often does, is told so soon."""
TIMEOUT_S = 150.0 + float(SECONDS or 0)


async def schemathesis(url: str, directory: Path) -> tuple[int, str]:
    """Its exit code and what it says."""
    bounds = ["--max-examples", str(EXAMPLES)] if SECONDS is None else ["--max-time", SECONDS]
    arguments = [
        *("--config-file", str(HERE / "fuzz.toml"), "run", f"{url}/openapi.json", "--seed", SEED, *bounds),
        *("--exclude-path", "/live"),  # a stream has no end to wait for: tests/unit/test_live_feed.py
        *("--workers", "1", "--phases", "examples,coverage,fuzzing", "--mode", "all"),
        *("--generation-database", "none", "--no-color", "--request-timeout", "20", "--continue-on-failure"),
    ]
    running = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("st")),
        *arguments,
        cwd=directory,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.integration.fuzz_hooks", "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            out, _ = await running.communicate()
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()
    return running.returncode or 0, out.decode()


@pytest.mark.long
@pytest.mark.timeout(TIMEOUT_S + 60)
async def test_no_request_is_answered_otherwise_than_described(fleet: TestedFleet, tmp_path: Path) -> None:
    worker = fleet.worker("one", outcome_wait_ms=WAIT_MS)
    await fleet.up(worker)
    code, said = await schemathesis(worker.url, tmp_path)
    assert code == 0, said
    await fleet.ready(worker)
    audit = await audit_once(fleet.settings.brokers, fleet.settings.topic_prefix)
    assert audit.ok, json.dumps(audit.as_json())
    assert audit.dead_letters == {}, "what HTTP lets through can be decoded"
