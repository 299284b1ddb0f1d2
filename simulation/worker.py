"""What outlasts a process: a worker with its name, its disk and its machine's clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from app.runtime.agent import Agent
from app.runtime.settings import Settings
from simulation.faults import Fault
from simulation.group import Group
from simulation.scene import Scene
from tables.memory import MemoryStores

if TYPE_CHECKING:
    from simulation.process import Process


@dataclass
class Armed:
    """A fault that waits for a side effect."""

    fault: Fault
    left: int

    def meets(self, effect: str) -> bool:
        """Whether this effect is the one."""
        if self.fault.effect not in ("", effect):
            return False
        self.left -= 1
        return self.left < 0


@dataclass(eq=False)
class Worker:
    """What outlasts a process: a name, a disk, a machine's clock."""

    name: str
    settings: Settings
    agents: Sequence[Agent]
    group: Group
    stores: MemoryStores = field(default_factory=MemoryStores)
    armed: list[Armed] = field(default_factory=list)
    skew_ms: int = 0
    lives: int = 0
    process: Process | None = None
    deposed: dict[tuple[str, int], int] = field(default_factory=dict)
    """By topic and partition, the old ends that the leaders tell which this machine still asks."""

    def find_the_leaders(self) -> None:
        """Ask those that there are now."""
        self.deposed.clear()
        if self.process is not None:
            self.process.consumer.look_again()


def settings_of(scene: Scene, role: str, worker: str = "w") -> Settings:
    """The settings of a worker: time-outs short, so that much happens in little time."""
    return Settings(
        role=role,
        worker=worker,
        partitions=scene.partitions,
        buckets=scene.buckets,
        data_dir=Path(),
        session_timeout=3.0,
        heartbeat_interval=1.0,
        request_timeout=3.0,
        open_timeout=15.0,
        round_timeout=3.0,
        close_timeout=2.0,
        backoff_max=1.0,
        group_offsets_interval=1.0,
        catch_up_records=(10_000, 3)[scene.late_witness],
    )
