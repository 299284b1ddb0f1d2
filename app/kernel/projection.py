"""A projection folds the events of one or more categories into the rows of a read model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from app.kernel.envelope import Envelope

R = TypeVar("R")


@dataclass(frozen=True)
class Projection(Generic[R]):
    """One read model: `project(row, envelope)` gives the row of that stream after the event, or `None` to remove it.

    `row` is `None` before the stream's first event. The function is pure; it is called once for every event, in the
    stream's order, whatever breaks.
    """

    name: str
    category: str
    row: type[R]
    project: Callable[[R | None, Envelope[Any]], R | None]
