"""Bad input: bytes, JSON of any shape, and records that were valid until something happened to them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

from app.catalogue import CATALOGUE
from tests.golden.keeping import DIRECTORY

COMMANDS = {kind.wire_name for kind in CATALOGUE.commands()}

ODD: Sequence[Any] = (
    *(None, True, 0, -1, 1, 2**31, 2**53, 2**63, 2**64, -(2**63), 10**30, 1.5, 1e308),
    *(
        "",
        " ",
        "\x00",
        "a\nb",
        "\ud800",
        "é" * 300,
        "x" * 100_000,
        "NaN",
        "sNaN",
        "Infinity",
        "-1",
        "1E400",
        "1E999999999",
    ),
    *("0E-999999", "9" * 60, "0." + "1" * 60, "-0.00", "1_000", "٣", "0001-01-01T00:00:00+14:00"),
    *("9999-12-31T23:59:59-14:00", "2026-01-01T00:00:00", "1969-12-31T23:59:59Z", "2026-02-30T00:00:00Z"),
    *([], {}, [[]], {"": {}}, [None] * 300),
)
"""Values that something may stumble over, wherever they stand."""

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(ODD),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
deep = st.sampled_from([b"[" * 100_000, b'{"a":' * 20_000, b'{"data":' + b"[" * 50_000 + b"]" * 50_000 + b"}"])


def garbage() -> st.SearchStrategy[bytes | None]:
    """What never was a record."""
    return st.none() | st.binary(max_size=200) | values.map(encode) | deep


def spoilt(names: Sequence[str]) -> st.SearchStrategy[bytes]:
    """Golden records of these messages, and what becomes of them: a value, a key, some bytes are others."""
    return st.sampled_from(names).map(golden).flatmap(lambda record: _otherwise(record) | _torn(encode(record)))


def golden(name: str) -> dict[str, Any]:
    """A record that is as it should be; a command expects no version, so that it is decided."""
    record: dict[str, Any] = json.loads((DIRECTORY / f"{name}.json").read_bytes())
    return {key: value for key, value in record.items() if key != "version" or name not in COMMANDS}


def encode(value: Any) -> bytes:
    """As JSON; what JSON does not have is written as Python does, and is malformed."""
    return json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass")


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values within."""
    found = [path] if path else []
    match value:
        case dict():
            for key, inner in value.items():
                found += places(inner, (*path, key))
        case list():
            for number, inner in enumerate(value):
                found += places(inner, (*path, number))
    return found


def changed(value: Any, path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Any:
    """A copy in which something was done at a path: to the container, at the last step."""
    copy = json.loads(json.dumps(value))
    place = copy
    for step in path[:-1]:
        place = place[step]
    change(place, path[-1])
    return copy


def put(record: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy with another value at a path."""
    return changed(record, path, lambda place, key: place.__setitem__(key, value))


def _otherwise(record: dict[str, Any]) -> st.SearchStrategy[bytes]:
    at = st.sampled_from(places(record))
    other = st.tuples(at, st.sampled_from(ODD) | values).map(lambda drawn: put(record, *drawn))
    lost = at.map(lambda path: changed(record, path, lambda place, key: place.__delitem__(key)))
    return (other | lost).map(encode)


def _torn(raw: bytes) -> st.SearchStrategy[bytes]:
    at = st.integers(0, len(raw) - 1)
    cut = at.map(lambda number: raw[:number])
    other = st.tuples(at, st.binary(max_size=3)).map(lambda drawn: raw[: drawn[0]] + drawn[1] + raw[drawn[0] + 1 :])
    return cut | other
