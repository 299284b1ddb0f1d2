"""How fast records flow, and so how long a new one would wait."""

from __future__ import annotations

from collections.abc import Mapping

from app.runtime.ports import TopicPartition

CAPACITY_PER_S_MIN = 500.0
"""What a partition is trusted to do before it has shown more: an idle fleet must not look overloaded by one burst."""
FORGET_SHARE_PER_S = 0.01
"""The best rate that was seen counts for less as time passes: what else runs on the machine may be another now."""


class Flow:
    """Estimates, from positions told every second or so, the wait of a record that is produced now.

    The wait is the records before it, divided by the best rate that the partition has shown lately.
    """

    def __init__(self) -> None:
        self._at_s: float | None = None
        self._positions: dict[TopicPartition, int] = {}
        self._capacity: dict[TopicPartition, float] = {}
        self._lag: dict[TopicPartition, int] = {}

    def note(self, positions: Mapping[TopicPartition, int], lag: Mapping[TopicPartition, int], now_s: float) -> None:
        """Tell how far each source was folded, and how many records wait behind that."""
        elapsed_s = now_s - self._at_s if self._at_s is not None else 1.0
        if elapsed_s <= 0:
            return
        keep = max(0.0, 1 - FORGET_SHARE_PER_S * elapsed_s)
        for source, position in positions.items():
            before = self._positions.get(source, position)
            rate = max(0, position - before) / elapsed_s
            self._capacity[source] = max(rate, self._capacity.get(source, 0.0) * keep, CAPACITY_PER_S_MIN)
        self._at_s, self._positions, self._lag = now_s, dict(positions), dict(lag)

    def wait_s(self, source: TopicPartition) -> float:
        """For how long a record that is produced now would wait; 0 where nothing is known."""
        return self._lag.get(source, 0) / self._capacity.get(source, CAPACITY_PER_S_MIN)
