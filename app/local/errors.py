"""What can be missing on a machine, said in one sentence."""

from __future__ import annotations

from aiokafka.errors import KafkaError

from app.kernel.errors import FleetError


class LocalFleetError(FleetError):
    """The local fleet cannot run here as things are. The text says what to do."""


TOLD_IN_A_SENTENCE = (FleetError, KafkaError, OSError)
"""What ends a command without a stack trace: the fleet's own errors, those of brokers, and those of files and disks."""
