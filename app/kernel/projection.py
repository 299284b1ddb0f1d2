"""A projection folds the events of a category into the rows of a read model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Generic, TypeVar

from app.kernel.envelope import Envelope
from app.kernel.errors import ConfigurationRefused

R = TypeVar("R")


class Keyed(Enum):
    """By what a projection's rows are kept, and so where they lie."""

    BY_STREAM = "by stream"
    """One row per stream, in the stream's own partition."""
    BY_KEY = "by key"
    """Rows of another key: each event is brought to that key's partition, and folded there."""
    BY_PARTIAL = "by partial"
    """Rows of a key that all partitions share: each keeps its part, and parts are merged when they are read."""


@dataclass(frozen=True)
class Listing(Generic[R]):
    """A key that has many rows: a list, newest first.

    `item(envelope)` tells which of the list's rows an event belongs to, `at(row)` when that row is to be listed, and
    `path` where the list is served, with `{id}` for the key.
    """

    item: Callable[[Envelope[Any]], str]
    at: Callable[[R], datetime]
    path: str


@dataclass(frozen=True)
class Projection(Generic[R]):
    """One read model: `project(row, envelope)` gives the row after the event, or `None` to remove it.

    `row` is `None` before the row's first event. The function is pure; it is called once for every event, in the
    stream's order, whatever breaks.

    Without more there is one row per stream. With `key` there is one per key: `key(envelope)` names it, `None` passes
    the event by. Events of different streams come to such a row in no certain order, and in another one when it is
    built anew: let the result not depend on it. With `merge` as well, each partition keeps a part of the row, made of
    its own streams alone, and `merge(a, b)` makes one of two parts: for figures that all events share, such as those of
    a day. With `listing` a key has a list of rows.

    `newest_first` lists keys downwards: days, not names.
    """

    name: str
    category: str
    row: type[R]
    project: Callable[[R | None, Envelope[Any]], R | None]
    key: Callable[[Envelope[Any]], str | None] | None = None
    merge: Callable[[R, R], R] | None = None
    listing: Listing[R] | None = None
    newest_first: bool = False

    def __post_init__(self) -> None:
        if self.key is None and (self.merge or self.listing):
            raise ConfigurationRefused(f"projection {self.name} merges or lists rows of no key: give it one")
        if self.merge is not None and self.listing is not None:
            raise ConfigurationRefused(
                f"projection {self.name} lists rows, which are not merged: leave one of both out"
            )
        if self.listing is not None and "{id}" not in self.listing.path:
            raise ConfigurationRefused(f"projection {self.name}: the path {self.listing.path} lacks {{id}}, the key")

    @property
    def keyed(self) -> Keyed:
        """By what the rows are kept."""
        if self.key is None:
            return Keyed.BY_STREAM
        return Keyed.BY_KEY if self.merge is None else Keyed.BY_PARTIAL
