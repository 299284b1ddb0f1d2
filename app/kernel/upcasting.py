"""Upcasters bring what an old version of a message said into the words of the next one.

What was written is never changed. So a version that nobody writes any more has no class: it has an upcaster, declared
with the aggregate, and from then on is read as the newest version, for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from app.kernel.messages import Message, check_wire_name

Data = dict[str, Any]
"""A message's data as JSON has it: texts, whole numbers, lists, dictionaries; a number with a point is a `Decimal`."""


@dataclass(frozen=True)
class Upcaster:
    """One step: data of the version `old` becomes data of the version `new`. `change` is pure."""

    old: str
    new: str
    change: Callable[[Data], Data]


@dataclass(frozen=True)
class Upcast:
    """All steps from one old version to the type that is written today."""

    kind: type[Message]
    steps: tuple[Upcaster, ...]

    def __call__(self, data: Data) -> Data:
        """The data in the words of `kind`."""
        for step in self.steps:
            data = step.change(data)
        return data


def upcasts(kinds: Iterable[type[Message]], upcasters: Iterable[Upcaster]) -> Mapping[str, Upcast]:
    """By old wire name, the way to one of `kinds`. Steps that lead elsewhere are left out."""
    written = {kind.wire_name: kind for kind in kinds}
    by_old = {step.old: step for step in upcasters}
    found = {}
    for old in by_old:
        steps = _steps(old, by_old)
        if (kind := written.get(steps[-1].new)) is not None:
            found[old] = Upcast(kind, steps)
    return found


def check_upcasters(kinds: Iterable[type[Message]], upcasters: Iterable[Upcaster]) -> None:
    """Raise `TypeError`, saying what to change, unless every step begins a way to one of `kinds`."""
    kinds, upcasters = tuple(kinds), tuple(upcasters)
    written, olds = {kind.wire_name: kind for kind in kinds}, [step.old for step in upcasters]
    for step in upcasters:
        for name in (step.old, step.new):
            check_wire_name(name)
        if step.old in written:
            raise TypeError(f"{step.old} is {written[step.old].__name__}'s wire name: give that class the new version")
        if olds.count(step.old) > 1:
            raise TypeError(f"{step.old} has two upcasters: what it says must have one meaning")
    reached = upcasts(kinds, upcasters)
    for step in upcasters:
        if step.old not in reached:
            raise TypeError(f"the upcaster of {step.old} leads to {step.new}, and from there to no message: add a step")


def _steps(old: str, by_old: Mapping[str, Upcaster]) -> tuple[Upcaster, ...]:
    steps = [by_old[old]]
    while (step := by_old.get(steps[-1].new)) is not None and len(steps) < len(by_old):
        steps.append(step)
    return tuple(steps)
