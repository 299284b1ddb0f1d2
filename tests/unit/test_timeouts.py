"""The time-outs that belong together, wherever they are told."""

from __future__ import annotations

from pathlib import Path

from app.main import make_app
from app.runtime.kafka.connection import METADATA_MAX_AGE_MS, Connection
from app.runtime.settings import Settings


def test_no_client_believes_a_deposed_leader_for_minutes(tmp_path: Path) -> None:
    """Looking up offsets, aiokafka asks the same leader until its metadata is renewed: by default for five minutes."""
    app = make_app(Settings(data_dir=tmp_path))
    assert app.conf.consumer_metadata_max_age_ms == app.conf.producer_metadata_max_age_ms == METADATA_MAX_AGE_MS
    assert Connection("b:1").client_options["metadata_max_age_ms"] == METADATA_MAX_AGE_MS <= 5_000


def test_a_hung_broker_holds_the_consumer_up_for_hardly_longer_than_a_session() -> None:
    assert Settings(session_timeout=6.0).request_timeout_s == 6.5
    assert Settings(session_timeout=20.0, request_timeout=30.0).request_timeout_s == 30.0
