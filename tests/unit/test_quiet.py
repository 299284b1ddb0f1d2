"""An outage does not fill the log."""

from __future__ import annotations

import logging

import pytest

from app.runtime.kafka.quiet import OnceInAWhile


def test_the_same_is_said_once_in_a_while_and_then_how_often(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    log = logging.getLogger("test.quiet")
    log.addFilter(calm := OnceInAWhile(5.0, lambda: now))
    try:
        for broker in range(3):
            log.error("Unable to connect to %s", broker)
        log.error("Another matter")
        now = 5.0
        log.error("Unable to connect to %s", 7)
        log.error("Unable to connect to %s", 8)
    finally:
        log.removeFilter(calm)
    assert [record.getMessage() for record in caplog.records] == [
        "Unable to connect to 0",
        "Another matter",
        "Unable to connect to 7 (and 2 more like this)",
    ]
