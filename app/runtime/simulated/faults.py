"""Faults that a test has ordered."""

from __future__ import annotations

from dataclasses import dataclass, field

from aiokafka.errors import KafkaConnectionError


@dataclass
class Fault:
    """After `after` good calls of `step`, `times` calls fail. With `lost_ack`, what was asked is done all the same."""

    step: str
    error: Exception
    lost_ack: bool = False
    times: int = 1
    after: int = 0


@dataclass
class Faults:
    """Every fault that is still to come."""

    ordered: list[Fault] = field(default_factory=list)

    def order(self, fault: Fault) -> None:
        """Add a fault."""
        self.ordered.append(fault)

    def take(self, step: str) -> Fault | None:
        """The fault that this call of `step` meets, if any."""
        for fault in self.ordered:
            if fault.step != step:
                continue
            if fault.after:
                fault.after -= 1
                continue
            fault.times -= 1
            if not fault.times:
                self.ordered.remove(fault)
            return fault
        return None


def lost_connection() -> Exception:
    """What a fault raises where nothing else was ordered."""
    return KafkaConnectionError("simulated: the connection broke")
