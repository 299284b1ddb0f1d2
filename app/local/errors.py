"""What can be missing on a machine, said in one sentence."""

from __future__ import annotations

from app.kernel.errors import FleetError


class LocalFleetError(FleetError):
    """The local fleet cannot run here as things are. The text says what to do."""
