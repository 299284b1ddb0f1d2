"""Which fleet a command is about."""

from __future__ import annotations

from pathlib import Path

from app.local.fleet import LocalFleet
from app.runtime.settings import Settings, load_settings

DIRECTORY = Path(".fleet")


def brokers_here() -> str:
    """Those of the fleet that runs here; otherwise those that the settings name."""
    return settings_here().brokers


def settings_here() -> Settings:
    """The settings, with the brokers of the fleet that runs here."""
    fleet, settings = LocalFleet.known(DIRECTORY), load_settings()
    return settings.model_copy(update={"brokers": fleet.brokers}) if fleet is not None and fleet.running else settings
