"""Which fleet a command is about."""

from __future__ import annotations

from pathlib import Path

from app.local.fleet import LocalFleet
from app.runtime.settings import load_settings

DIRECTORY = Path(".fleet")


def brokers_here() -> str:
    """Those of the fleet that runs here; otherwise those that the settings name."""
    fleet = LocalFleet.known(DIRECTORY)
    return fleet.brokers if fleet is not None and fleet.running else load_settings().brokers
