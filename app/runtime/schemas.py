"""JSON Schema (2020-12) of what is on the wire, made of the types themselves.

It is msgspec's, and what that leaves out: the form of decimals, times and words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import inspect

from app.kernel import words

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
DECIMAL: Schema = {"type": "string", "format": "decimal", "pattern": r"^-?[0-9]+(\.[0-9]+)?$"}
"""A decimal on the wire: digits as text, never a float."""
DECIMAL_ASKED: Schema = {"type": ["string", "number"], "format": "decimal", "pattern": r"^-?[0-9]+(\.[0-9]+)?$"}
"""A decimal as it is taken from clients: numbers are read digit by digit, they do not go through a float either."""
TIME: Schema = {"type": "string", "format": "date-time"}
NO_CONTROLS_TOLD = r"^[^\x00-\x1f\x7f-\x9f]*$"
"""The pattern of words as more readers of patterns bear it."""

COMPONENT = "#/components/schemas/{name}"
LOCAL = "#/$defs/{name}"


def schemas_of(
    kinds: Sequence[Any], ref_template: str = COMPONENT, *, asked: bool = False
) -> tuple[list[Schema], dict[str, Schema]]:
    """A schema for each of the types, and the components that they refer to.

    `asked` is for what clients send: decimals may then be numbers as well.
    """
    told = msgspec.json.schema_components(kinds, ref_template=ref_template)
    found, components = msgspec.json.decode(msgspec.json.encode(told))  # defaults as JSON has them
    structs = {_component_name(info.cls): info for info in _structs(inspect.multi_type_info(kinds))}
    components = {name: _with_times(schema, structs.get(name)) for name, schema in components.items()}
    decimal = DECIMAL_ASKED if asked else DECIMAL
    return [_in_words(s, decimal) for s in found], {n: _in_words(c, decimal) for n, c in components.items()}


def schema_of(kind: Any) -> Schema:
    """A schema that stands by itself."""
    (found,), components = schemas_of([kind], LOCAL)
    return {**found, "$defs": components} if components else found


def _in_words(schema: Any, decimal: Schema) -> Any:
    match schema:
        case {"type": "string", "format": "decimal"}:
            return {**schema, **decimal, "pattern": schema.get("pattern", decimal["pattern"])}
        case {"pattern": words.NO_CONTROLS}:
            return {**schema, "pattern": NO_CONTROLS_TOLD}
        case dict():
            return {name: _in_words(value, decimal) for name, value in schema.items()}
        case list():
            return [_in_words(value, decimal) for value in schema]
        case _:
            return schema


def _component_name(cls: Any) -> str:
    """The name that msgspec gives to the component of a struct."""
    origin = getattr(cls, "__origin__", None)
    if origin is None:
        return str(cls.__name__)
    return re.sub(r"[^a-zA-Z0-9.\-_]", "_", f"{origin.__name__}[{', '.join(one.__name__ for one in cls.__args__)}]")


def _with_times(schema: Schema, struct: inspect.StructType | None) -> Schema:
    if struct is None:
        return schema
    properties: Mapping[str, Schema] = schema["properties"]
    told = {field.encode_name: _timed(properties[field.encode_name], field.type) for field in struct.fields}
    return {**schema, "properties": told}


def _timed(schema: Schema, info: inspect.Type) -> Schema:
    match info:
        case inspect.Metadata(type=inner):
            return _timed(schema, inner)
        case inspect.DateTimeType():
            return {**schema, **TIME}
        case inspect.UnionType(types=types) if "anyOf" in schema:
            return {**schema, "anyOf": [_timed(*pair) for pair in zip(schema["anyOf"], types, strict=True)]}
        case inspect.DictType(value_type=value) if isinstance(schema.get("additionalProperties"), dict):
            return {**schema, "additionalProperties": _timed(schema["additionalProperties"], value)}
        case _:
            return schema


def _structs(infos: Iterable[inspect.Type]) -> list[inspect.StructType]:
    """All struct types within the types."""
    found: dict[Any, inspect.StructType] = {}
    todo = list(infos)
    while todo:
        info = todo.pop()
        match info:
            case inspect.StructType(cls=cls) if cls not in found:
                found[cls] = info
                todo += [field.type for field in info.fields]
            case inspect.Metadata(type=inner):
                todo.append(inner)
            case inspect.UnionType(types=types):
                todo += types
            case inspect.VarTupleType(item_type=item) | inspect.ListType(item_type=item):
                todo.append(item)
            case inspect.TupleType(item_types=items):
                todo += items
            case inspect.DictType(value_type=value):
                todo.append(value)
            case _:
                pass
    return list(found.values())
