"""Whether everything that lies in logs is still read, as what it was written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from app.catalogue import CATALOGUE
from app.kernel import Aggregate, Message
from app.runtime.codec import CloudEvent, Codec
from app.runtime.settings import Settings
from app.schema.topics import describe, types_of
from tests.golden.shapes import Shapes, incompatible, shapes_of

DIRECTORY = Path(__file__).parent
VERSION = re.compile(r"(.*\.v)(\d+)")
NEVER = "what lies in logs stays as it is"

_encode = msgspec.json.Encoder(decimal_format="string").encode
Reread = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Forms:
    """What there is on the wire: types by the wire name that is written today, and the old names that are upcast.

    `reread` decodes a record as the fleet does, and encodes what came of it.
    """

    written: Mapping[str, type[msgspec.Struct]]
    upcast: frozenset[str]
    reread: Mapping[str, Reread]


def forms_of(
    aggregates: Iterable[Aggregate[Any, Any, Any]], others: Mapping[str, type[msgspec.Struct]] | None = None
) -> Forms:
    """The forms of some aggregates' messages, and of `others`: CloudEvents that are no messages of an aggregate."""
    others = others or {}
    found = Forms(dict(others), frozenset(), {name: _rereading(kind) for name, kind in others.items()})
    for aggregate in aggregates:
        found = _together(found, forms_with(Codec.of_commands(aggregate), aggregate.commands))
        found = _together(found, forms_with(Codec.of_events(aggregate), aggregate.events))
    return found


def forms_with(codec: Codec, kinds: Iterable[type[Message]]) -> Forms:
    """The forms of some messages and of their older versions, as this codec reads them."""
    written = {kind.wire_name: kind for kind in kinds}

    def reread(record: bytes) -> bytes:
        return codec.encode(codec.decode(record), json.loads(record)["source"])

    return Forms(written, frozenset(codec.upcast), dict.fromkeys([*written, *codec.upcast], reread))


def _together(one: Forms, other: Forms) -> Forms:
    return Forms({**one.written, **other.written}, one.upcast | other.upcast, {**one.reread, **other.reread})


OTHERS: Mapping[str, type[msgspec.Struct]] = {
    name: kind for name, kind in types_of(describe(CATALOGUE, Settings())).items() if not issubclass(kind, Message)
}
"""The CloudEvents of the catalogue's topics that are no messages of an aggregate: outcomes, alerts, …"""


def complaints(forms: Forms, directory: Path = DIRECTORY) -> Iterator[str]:
    """All that is wrong, each as a sentence that says what to do."""
    kept = {path.stem for path in directory.glob("*.json")}
    for name, kind in forms.written.items():
        if name not in kept or not (directory / "shapes" / f"{name}.json").exists():
            yield f"{name} has no golden file: run `make golden`, look at what it has written, and commit it"
            continue
        yield from (f"{name}: {what}" for what in _of_written(name, kind, forms, directory))
    for name in sorted(forms.upcast - kept):
        yield f"{name} is upcast, but has no golden file: put a record of that version into {name}.json"
    for name in sorted(kept - forms.written.keys()):
        if name not in forms.upcast:
            yield f"{name} is read by nobody: {NEVER}, so declare an upcaster with its aggregate"
        else:
            yield from (f"{name}: {what}" for what in _of_upcast(name, forms, directory))
    for name in sorted(forms.written.keys() | kept):
        yield from (f"{name} has no {older}: {NEVER}" for older in _older(name) if older not in kept)


def _of_written(name: str, kind: type[msgspec.Struct], forms: Forms, directory: Path) -> Iterator[str]:
    old, new = read_shapes(directory, name), shapes_of(kind)
    broken = list(incompatible(old, new))
    yield from (f"{what}. Give {kind.__name__} the next version's name and upcast this one" for what in broken)
    if broken:
        return
    if old != new:
        yield "has changed in a way that old records bear: run `make golden`, and commit what it has written"
        return
    record = (directory / f"{name}.json").read_bytes()
    yield from _differences(record, forms.reread[name](record))
    said = {one for other in _of_the_same_kind(kind, forms, directory) for one in _flat(json.loads(other)["data"])}
    yield from (
        f"the golden record says nothing of {path}" for path in new if not any(_is_at(one, path) for one in said)
    )


def _of_the_same_kind(kind: type[msgspec.Struct], forms: Forms, directory: Path) -> list[bytes]:
    names = [name for name, other in forms.written.items() if other is kind]
    return [path.read_bytes() for name in names if (path := directory / f"{name}.json").exists()]


def _of_upcast(name: str, forms: Forms, directory: Path) -> Iterator[str]:
    wanted = directory / "upcast" / f"{name}.json"
    record = (directory / f"{name}.json").read_bytes()
    if not wanted.exists():
        yield "what is it read as? Run `make golden`, look at upcast/, and commit it"
        return
    yield from _differences(wanted.read_bytes(), forms.reread[name](record))


def _differences(wanted: bytes, got: bytes) -> Iterator[str]:
    """Field by field: what is wanted and is not there, or is something else. A new field with its default is none."""
    there = dict(_flat(json.loads(got)))
    for path, value in _flat(json.loads(wanted)):
        if path not in there:
            yield f"{path} is lost"
        elif (type(there[path]), there[path]) != (type(value), value):
            yield f"{path} was {value!r}, and is read as {there[path]!r}"


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    match value:
        case dict() if value:
            for name, inner in value.items():
                yield from _flat(inner, f"{path}.{name}" if path else name)
        case list() if value:
            for number, inner in enumerate(value):
                yield from _flat(inner, f"{path}[{number}]")
        case _:
            yield path, value


def _is_at(flat: tuple[str, Any], shape: str) -> bool:
    path, value = flat
    bare = re.sub(r"\[\d+\]", "[]", path)
    pattern = re.escape(shape).replace(r"\{\}", r"\.[^.\[]+")
    return value not in (None, [], {}) and re.fullmatch(pattern + r"([.\[].*)?", bare) is not None


def _older(name: str) -> Sequence[str]:
    found = VERSION.fullmatch(name)
    return [f"{found[1]}{number}" for number in range(1, int(found[2]))] if found else []


def read_shapes(directory: Path, name: str) -> Shapes:
    """The shapes as they were kept."""
    return msgspec.json.decode((directory / "shapes" / f"{name}.json").read_bytes(), type=Shapes)


def _rereading(kind: type[msgspec.Struct]) -> Reread:
    def reread(record: bytes) -> bytes:
        event = msgspec.json.decode(record, type=CloudEvent)
        data = msgspec.Raw(_encode(msgspec.json.decode(event.data, type=kind)))
        return _encode(msgspec.structs.replace(event, data=data))

    return reread
