"""Shapes: the fields of a message, their types and bounds, laid out flat; and which changes break old records."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, assert_never

import msgspec
from msgspec import inspect

BOUNDS = ("ge", "gt", "le", "lt", "multiple_of", "min_length", "max_length", "pattern")
LOWER, UPPER = ("ge", "gt", "min_length"), ("le", "lt", "max_length")


class Shape(msgspec.Struct, frozen=True, omit_defaults=True):
    """What may stand at one place: one of these types, within these bounds, and whether it must."""

    types: tuple[str, ...]
    required: bool = True
    bounds: dict[str, Any] = msgspec.field(default_factory=dict)


Shapes = dict[str, Shape]
"""By path: `total`, `items[].price`, `reserved{}`."""


def shapes_of(kind: type[msgspec.Struct]) -> Shapes:
    """The shapes of a message's data."""
    return dict(_fields("", inspect.type_info(kind)))


def incompatible(old: Shapes, new: Shapes) -> Iterator[str]:
    """What of `new` cannot read all that was written as `old`, or reads it as something else."""
    for path, before in old.items():
        after = new.get(path)
        if after is None:
            yield f"{path} is gone or has another name"
            continue
        if lost := sorted(set(before.types) - set(after.types)):
            yield f"{path} was {' or '.join(lost)}, now it is {' or '.join(after.types)}"
        if after.required and not before.required:
            yield f"{path} was optional, now it is required"
        yield from (f"{path}: {why}" for why in _tighter(before.bounds, after.bounds))
    for path in new.keys() - old.keys():
        if new[path].required and not _parent_is_new(path, old):
            yield f"{path} is new and required: give it a default"


def _parent_is_new(path: str, old: Shapes) -> bool:
    parent = path[:-2] if path.endswith(("[]", "{}")) else path.rpartition(".")[0]
    return parent != "" and parent not in old


def _tighter(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    for name, bound in after.items():
        was = before.get(name)
        if bound == was:
            continue
        if was is None:
            yield f"{name}={bound} is a new bound"
        elif (name in LOWER and bound > was) or (name in UPPER and bound < was) or name not in (*LOWER, *UPPER):
            yield f"{name} was {was}, now it is {bound}"


def _fields(prefix: str, info: inspect.Type) -> Iterator[tuple[str, Shape]]:
    if isinstance(info, inspect.StructType):
        for field in info.fields:
            path = f"{prefix}.{field.encode_name}" if prefix else field.encode_name
            yield from _shape(path, field.type, required=field.required)


def _shape(path: str, info: inspect.Type, *, required: bool = True) -> Iterator[tuple[str, Shape]]:
    info = info.type if isinstance(info, inspect.Metadata) else info
    union = info.types if isinstance(info, inspect.UnionType) else (info,)
    options = [option.type if isinstance(option, inspect.Metadata) else option for option in union]
    types = tuple(sorted(word for option in options for word in _words(option)))
    bounds = {n: bound for o in options for n in BOUNDS if (bound := getattr(o, n, None)) is not None}
    yield path, Shape(types, required, bounds)
    for option in options:
        match option:
            case inspect.StructType():
                yield from _fields(path, option)
            case inspect.VarTupleType(item_type=item) | inspect.ListType(item_type=item):
                yield from _shape(f"{path}[]", item)
            case inspect.DictType(value_type=value):
                yield from _shape(f"{path}{{}}", value)
            case _:
                pass


def _words(info: inspect.Type) -> Iterator[str]:
    match info:
        case inspect.EnumType(cls=cls):
            yield from (repr(member.value) for member in cls)
        case inspect.LiteralType(values=values):
            yield from map(repr, values)
        case inspect.StructType():
            yield "object"
        case inspect.VarTupleType() | inspect.ListType():
            yield "list"
        case inspect.DictType():
            yield "map"
        case inspect.NoneType():
            yield "null"
        case inspect.StrType() | inspect.IntType() | inspect.BoolType() | inspect.FloatType():
            yield type(info).__name__.removesuffix("Type").lower()
        case inspect.DecimalType() | inspect.DateTimeType():
            yield type(info).__name__.removesuffix("Type").lower()
        case inspect.Type():
            raise TypeError(f"{info} has no word here: add it, or use a type that messages have already")
        case _:
            assert_never(info)
