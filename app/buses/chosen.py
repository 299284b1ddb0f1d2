"""The bus that the settings name."""

from __future__ import annotations

from typing import assert_never

from app.buses.contract import EventBus, Report, report_to_log
from app.buses.kafka import KafkaBus
from app.buses.memory import MemoryBus
from app.buses.redis import RedisBus
from app.runtime.settings import Settings
from app.runtime.topics import Topics


def make_bus(settings: Settings, report: Report = report_to_log) -> EventBus:
    """The worker's bus, by FLEET_BUS. All workers of a fleet must have the same one."""
    name = Topics(settings.topic_prefix).notifications
    match settings.bus:
        case "memory":
            return MemoryBus(report=report)
        case "redis":
            return RedisBus(settings.redis_url, name, report=report)
        case "kafka":
            return KafkaBus(settings.brokers, name, report=report)
        case _:
            assert_never(settings.bus)
