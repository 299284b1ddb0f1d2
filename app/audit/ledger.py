"""The ids of all commands and events that were seen: about 110 bytes for each, whatever its length."""

from __future__ import annotations

from enum import IntFlag

_FLAG_BITS = 2
_MASK = (1 << _FLAG_BITS) - 1


class Flag(IntFlag):
    """What is known of one id."""

    SEEN = 1
    """It stands in its topic."""
    ANSWERED = 2
    """Of a command: it has an outcome. Of an event: an outcome claims it."""


class Ledger:
    """Which ids were seen, answered, and with which correlation.

    Ids and correlations are kept as 64-bit hashes: of ten million ids some two share one with a chance of one in three
    hundred thousand.
    """

    def __init__(self) -> None:
        self._entries: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def mark(self, id_: str, flag: Flag) -> bool:
        """Note it. Whether it was so already."""
        key = hash(id_)
        before = self._entries.get(key, 0)
        self._entries[key] = before | int(flag)
        return bool(before & int(flag))

    def has(self, id_: str, flag: Flag) -> bool:
        """Whether it was noted."""
        return bool(self._entries.get(hash(id_), 0) & int(flag))

    def correlate(self, id_: str, correlation: str) -> None:
        """Note a message's correlation id; the first one counts."""
        key = hash(id_)
        before = self._entries.get(key, 0)
        if not before >> _FLAG_BITS:
            self._entries[key] = before | _bits(correlation)

    def correlates(self, id_: str, correlation: str) -> bool:
        """Whether the message has this correlation id."""
        return self._entries.get(hash(id_), 0) & ~_MASK == _bits(correlation)


def _bits(correlation: str) -> int:
    return ((hash(correlation) & ((1 << 60) - 1)) | 1 << 60) << _FLAG_BITS
