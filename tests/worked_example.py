"""The README's worked example: its files, put where Python finds them as it would in the project.

A worker of the example is started with `-A tests.worked_example` and EXAMPLE_DIRECTORY set: then `app` is its app.
"""

from __future__ import annotations

import importlib
import os
import re
from pathlib import Path
from typing import Any

import app.catalogue
import app.chains
import app.domain
import app.projections
import app.windows
import tests.unit
from app.catalogue import Catalogue

README = Path(__file__).parents[1] / "README.md"
BLOCK = re.compile(r"```python\n# (\S+)\n(.*?)```", re.DOTALL)
PACKAGES = (app.domain, app.projections, app.windows, app.chains, tests.unit)
CATALOGUE_FILE = "app/catalogue.py"
NAMES = {
    "SEAT": "app.domain.seat",
    "SEATS": "app.projections.seats",
    "HOLDS_PER_MINUTE": "app.windows.holds_per_minute",
    "HOLDING": "app.chains.holding",
}
"""What the example's files define for the catalogue."""


def blocks() -> dict[str, str]:
    """The text of each file of the example, by its path."""
    return dict(BLOCK.findall(README.read_text()))


def write(directory: Path) -> None:
    """Write the files, but the catalogue, which is part of a file."""
    for name, text in blocks().items():
        if name != CATALOGUE_FILE:
            file = directory / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)


def paths_with(directory: Path) -> list[tuple[Any, list[str]]]:
    """Each package and its path with the example's files in it."""
    return [(one, [*one.__path__, str(directory / one.__name__.replace(".", "/"))]) for one in PACKAGES]


def catalogue() -> Catalogue:
    """The catalogue as the README has it, once the files can be imported."""
    importlib.invalidate_caches()
    namespace = dict(vars(app.catalogue))
    namespace |= {name: getattr(importlib.import_module(module), name) for name, module in NAMES.items()}
    exec(blocks()[CATALOGUE_FILE], namespace)
    made: Catalogue = namespace["CATALOGUE"]
    return made


if directory := os.environ.get("EXAMPLE_DIRECTORY"):
    for package, path in paths_with(Path(directory)):
        package.__path__ = path
    app.catalogue.CATALOGUE = catalogue()
    app = importlib.import_module("app.main").app
