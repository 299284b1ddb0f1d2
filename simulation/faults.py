"""The faults that a simulation injects: values, drawn from the seed before it begins, so that the list shrinks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from random import Random


class Died(BaseException):
    """The process ends here: nothing that it still does has any effect."""


class Kind(StrEnum):
    """What happens. Most name a worker; `effect` and `skip` say at which of its side effects, else it is at once."""

    KILL = "kill"
    """The process dies; what its stores have not flushed is lost, or (`share` < 0.25) the whole disk. Back later."""
    PAUSE = "pause"
    """The process stands still, as under SIGSTOP, and goes on as if nothing had been: past its session, a zombie."""
    FAIL = "fail"
    """A request fails before it arrives."""
    LOSE_ANSWER = "lose answer"
    """A request is done, its answer is lost."""
    CUT = "cut"
    """No request of the worker arrives."""
    SLOW = "slow"
    """Every request of one kind takes long on its way there, and may arrive after its sender has given up or died."""
    RESTART = "restart"
    """The worker is stopped in good order, and started again: two rebalances."""
    JUMP = "jump"
    """A consumer goes on elsewhere in a partition, unasked."""
    REPEAT = "repeat"
    """A batch is handed over again."""
    DROP = "drop"
    """A rebalance for nothing, and what was fetched before it is forgotten."""
    DEPOSE = "depose"
    """For a while the worker, its restarts included, asks deposed leaders of half of the logs: their ends are old."""
    COMPACT = "compact"
    """Changelogs are compacted, old tombstones go."""
    CLOCK = "clock"
    """The worker's clock jumps."""
    DISK = "disk"
    """The worker's stores can be written no more, for a while."""
    TIME_OUT = "time out"
    """The coordinator finds that a transaction is open for too long."""
    NIGHT = "night"
    """The worker is down for longer than tombstones are kept; the others go on, and changelogs are compacted."""
    MIRROR = "mirror"
    """Another system repeats an event that is there already."""
    RECREATE = "recreate"
    """A topic is deleted and made again: the fleet must refuse to go on."""


EFFECTS = (
    *("start", "produce", "commit", "abort", "seek", "bounds", "read", "topic_ids", "fetch", "group_offset"),
    *("fenced", "restored", "folded", "produced", "committed", "written"),
)
REQUESTS = ("start", "produce", "commit", "abort", "bounds", "read", "topic_ids", "fetch", "group_offset", "tick")


@dataclass(frozen=True)
class Fault:
    """One fault. `worker` counts the workers; `share`, from 0 to 1, chooses what else there is to choose."""

    kind: Kind
    at_s: float
    worker: int = 0
    effect: str = ""
    skip: int = 0
    seconds: float = 0.0
    share: float = 0.0

    def __str__(self) -> str:
        parts = [f"{self.at_s:7.3f} s  {self.kind:<11} worker {self.worker}"]
        if self.effect:
            parts.append(f"at its next {self.effect}" if not self.skip else f"at {self.effect} number {self.skip + 1}")
        if self.seconds:
            parts.append(f"for {self.seconds:.3f} s")
        return ", ".join(parts) + f" ({self.share:.2f})"


WEIGHTS: dict[Kind, int] = {
    Kind.KILL: 24,
    Kind.PAUSE: 10,
    Kind.FAIL: 10,
    Kind.LOSE_ANSWER: 10,
    Kind.CUT: 4,
    Kind.SLOW: 8,
    Kind.RESTART: 6,
    Kind.JUMP: 14,
    Kind.REPEAT: 6,
    Kind.DROP: 5,
    Kind.DEPOSE: 8,
    Kind.COMPACT: 6,
    Kind.CLOCK: 3,
    Kind.DISK: 3,
    Kind.TIME_OUT: 3,
    Kind.NIGHT: 3,
    Kind.MIRROR: 6,
}


def draw_faults(random: Random, number: int, end_s: float) -> list[Fault]:
    """So many faults, in the order of their times: of all kinds or of a few, which then come often enough to meet."""
    some = {kind: weight for kind, weight in WEIGHTS.items() if random.random() < 0.25}
    weights = some if some and random.random() < 0.5 else WEIGHTS
    kinds = random.choices(list(weights), list(weights.values()), k=number)
    return sorted((_draw(random, kind, end_s) for kind in kinds), key=lambda fault: fault.at_s)


def _draw(random: Random, kind: Kind, end_s: float) -> Fault:
    at_s, worker, share = round(random.uniform(0.0, end_s), 3), random.randrange(8), round(random.random(), 6)
    match kind:
        case Kind.KILL:
            effect = random.choice(EFFECTS) if random.random() < 0.8 else ""
            return Fault(kind, at_s, worker, effect, _skip(random), round(random.uniform(0.05, 5.0), 3), share)
        case Kind.PAUSE:
            effect = random.choice(EFFECTS) if random.random() < 0.6 else ""
            return Fault(kind, at_s, worker, effect, _skip(random), round(random.uniform(0.5, 8.0), 3), share)
        case Kind.FAIL | Kind.LOSE_ANSWER:
            return Fault(kind, at_s, worker, random.choice(REQUESTS), _skip(random), 0.0, share)
        case Kind.SLOW:
            seconds = round(random.choice((0.3, 2.0, 6.0)) * random.random(), 3)
            return Fault(kind, at_s, worker, random.choice(REQUESTS), 0, seconds, share)
        case Kind.JUMP:
            return Fault(kind, at_s, worker, seconds=round(2 * random.random(), 3), share=share)
        case Kind.DEPOSE:
            return Fault(kind, at_s, worker, seconds=round(random.uniform(1.0, 8.0), 3), share=share)
        case Kind.CUT | Kind.DISK:
            return Fault(kind, at_s, worker, seconds=round(random.uniform(0.5, 6.0), 3), share=share)
        case _:
            return Fault(kind, at_s, worker, share=share)


def _skip(random: Random) -> int:
    return random.choice((0, 0, 0, 1, 2, 5))
