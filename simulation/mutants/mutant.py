"""What a mutant is: a small change of the source of one function, made while it runs. The product has no switches."""

from __future__ import annotations
import __future__

import contextlib
import importlib
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any


class MutantOutdated(Exception):
    """The code that a mutant changes is not there any more: write the mutant anew."""


@dataclass(frozen=True)
class Change:
    """In the source of `target` (module:function) `old`, which is there once, becomes `new`."""

    target: str
    old: str
    new: str

    @contextlib.contextmanager
    def made(self) -> Iterator[None]:
        """The change, for a while, for everybody who has the function."""
        function = self._function()
        before = function.__code__
        function.__code__ = self._changed(function)
        try:
            yield
        finally:
            function.__code__ = before

    def _function(self) -> FunctionType:
        module, _, path = self.target.partition(":")
        found: Any = importlib.import_module(module)
        for name in path.split("."):
            found = inspect.getattr_static(found, name) if inspect.isclass(found) else getattr(found, name)
        if isinstance(found, property):
            found = found.fget
        if isinstance(found, classmethod | staticmethod):
            found = found.__func__
        assert isinstance(found, FunctionType), self.target
        return found

    def _changed(self, function: FunctionType) -> CodeType:
        source = textwrap.dedent(inspect.getsource(function))
        if source.count(self.old) != 1:
            raise MutantOutdated(f"{self.old!r} is {source.count(self.old)} times in {self.target}")
        flags = __future__.annotations.compiler_flag
        changed = compile(source.replace(self.old, self.new), f"<mutant of {self.target}>", "exec", flags, True)
        return next(c for c in changed.co_consts if isinstance(c, CodeType) and c.co_name == function.__name__)


@dataclass(frozen=True)
class Mutant:
    """`disables` says what is off."""

    name: str
    disables: str
    changes: tuple[Change, ...]

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """All of its changes, for a while."""
        with contextlib.ExitStack() as stack:
            for change in self.changes:
                stack.enter_context(change.made())
            yield


def mutant(name: str, disables: str, target: str, old: str, new: str) -> Mutant:
    """A mutant of one change."""
    return Mutant(name, disables, (Change(target, old, new),))
