"""Every kind of fault that there is. A new room of faults is added here."""

from __future__ import annotations

from chaos.faults import FAULTS, brokers, bus, disks, network, records, workers

ROOMS = (workers, disks, brokers, network, records, bus)
"""Importing them is what registers their faults."""

__all__ = ["FAULTS", "ROOMS"]
