"""Fleets for integration tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from app.local.kafka import LocalKafka
from tests.integration.fleet import TestedFleet


@pytest_asyncio.fixture
async def fleet(kafka: LocalKafka, topic_prefix: str, tmp_path: Path) -> AsyncIterator[TestedFleet]:
    """A fleet with its topics made and no worker started."""
    made = TestedFleet(kafka, topic_prefix, tmp_path)
    await made.make_topics()
    try:
        yield made
    finally:
        made.down()
