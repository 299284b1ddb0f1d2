"""What a seed stands for: the size of the fleet, what its clients send, and what happens to it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from app.runtime.simulated.cluster import BATCH_BYTES_MAX
from simulation.faults import Fault, Kind, draw_faults
from simulation.workload import Clients, Sent


@dataclass(frozen=True)
class Scene:
    """One simulation, whole: whoever runs it again sees the same again."""

    seed: int
    partitions: int
    buckets: int
    roles: tuple[tuple[str, int], ...]
    """Each role and its number of workers."""
    shop: bool
    """The whole catalogue, or orders alone."""
    batch_records_max: int
    chunk_records_max: int
    batch_bytes_max: int
    """How much a producer packs into one batch: small ones make several waves of a round."""
    mark_delay_s: float
    standbys: int
    late_witness: bool
    """An agent is added while the fleet runs, and must catch up."""
    end_s: float
    """When the faults stop."""
    sent: tuple[Sent, ...]
    faults: tuple[Fault, ...]

    def only(self, sent: tuple[Sent, ...], faults: tuple[Fault, ...]) -> Scene:
        """The same with less in it."""
        return replace(self, sent=sent, faults=faults)

    def describe(self) -> str:
        """Its size, in a line."""
        roles = ", ".join(f"{count} × {role}" for role, count in self.roles)
        return (
            f"{'the whole shop' if self.shop else 'orders alone'}: {roles}; {self.partitions} partitions in "
            f"{self.buckets} buckets, {self.standbys} standbys; {len(self.sent)} records sent, "
            f"{len(self.faults)} faults in {self.end_s:.1f} s"
        )


def scene_of(seed: int) -> Scene:
    """The scene of a seed."""
    random = Random(f"scene/{seed}")
    shop = random.random() < 0.35
    partitions = random.choice((1, 2, 2, 3) if not shop else (1, 2, 2))
    buckets = random.randint(1, partitions)
    split = shop and random.random() < 0.3
    roles = ("commands", "chains", "reads") if split else ("all",)
    end_s = random.uniform(3.0, 12.0)
    most = random.choice((0, 4, 10, 20, 40))
    recreate = random.random() < 0.04
    faults = draw_faults(random, random.randint(0, most), end_s)
    if recreate:
        faults.append(Fault(Kind.RECREATE, round(end_s, 3) - 0.001, share=round(random.random(), 6)))
    return Scene(
        seed,
        partitions,
        buckets,
        tuple((role, random.randint(1, min(buckets + 1, 2 if split else 3))) for role in roles),
        shop,
        random.choice((1, 2, 5, 500)),
        random.choice((1, 3, 1000)),
        Random(f"scene/{seed}/batches").choice((BATCH_BYTES_MAX, 2_000, 300)),
        random.choice((0.0, 0.0, 0.01, 0.3)),
        random.choice((0, 1)),
        random.random() < 0.25,
        round(end_s, 3),
        tuple(Clients(random, shop=shop, end_s=end_s).draw(random.randint(1, 4 if shop else 7))),
        tuple(sorted(faults, key=lambda fault: fault.at_s)),
    )
