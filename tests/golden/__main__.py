"""`make golden`: write the golden files that are missing. What is there is added to where that harms none.

To change what lies in logs needs a deliberate hand: it is not done here.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import msgspec

from app.catalogue import CATALOGUE
from tests.golden.drafts import completed, draft, pretty, pretty_shapes
from tests.golden.keeping import DIRECTORY, OTHERS, Forms, forms_of, read_shapes
from tests.golden.shapes import incompatible, shapes_of


def write(forms: Forms, directory: Path = DIRECTORY) -> list[str]:
    """Write what is missing; the names of the files that were written."""
    wanted: dict[Path, bytes] = {}
    for name, kind in forms.written.items():
        shapes = directory / "shapes" / f"{name}.json"
        if not shapes.exists() or not any(incompatible(read_shapes(directory, name), shapes_of(kind))):
            record = directory / f"{name}.json"
            wanted[shapes] = pretty_shapes(shapes_of(kind))
            wanted[record] = _record(record, name, kind)
    for name in sorted(forms.upcast):
        record, upcast = directory / f"{name}.json", directory / "upcast" / f"{name}.json"
        if record.exists():
            read_as = pretty(forms.reread[name](record.read_bytes()))
            if not upcast.exists() or _type(upcast.read_bytes()) != _type(read_as):  # there is a newer version
                wanted[upcast] = read_as
    changed = [path for path, content in wanted.items() if not path.exists() or path.read_bytes() != content]
    for path in changed:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(wanted[path])
    return [str(path.relative_to(directory)) for path in changed]


def _type(record: bytes) -> str:
    type_: str = json.loads(record)["type"]
    return type_


def _record(path: Path, name: str, kind: type[msgspec.Struct]) -> bytes:
    if not path.exists():
        return draft(name, kind)
    if name in OTHERS:
        return path.read_bytes()  # of one type, but each says other things
    record = json.loads(path.read_bytes())
    data = completed(record["data"], json.loads(draft(name, kind))["data"])
    return pretty(json.dumps({**record, "data": data}))


if __name__ == "__main__":
    for file in write(forms_of(CATALOGUE.aggregates, OTHERS)):
        sys.stdout.write(f"wrote tests/golden/{file}: look at it, and commit it\n")
