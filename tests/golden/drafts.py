"""Drafts of golden records: a value for every field, so that nothing of a message goes unlooked at."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import inspect

from tests.golden.shapes import Shapes

TIME = "2026-01-02T03:04:05.678901Z"
LIKELY = {
    "name": "Ada Lovelace",
    "customer_name": "Ada Lovelace",
    "email": "ada@example.org",
    "customer_email": "ada@example.org",
    "tracking_number": "parcel-1",
    "reason": "changed my mind",
    "declined": "insufficient funds",
}


def draft(name: str, kind: type[msgspec.Struct]) -> bytes:
    """A record of a message that has none yet. Whoever commits it may put likelier words into it."""
    data = _value(inspect.type_info(kind), "")
    record = {
        "id": f"{name}:1",
        "type": name,
        "source": f"/eventfleet/{name.partition('.')[0]}",
        "subject": next(iter(data.values())),
        "time": TIME,
        "data": data,
        "version": 3,
        "correlationid": "correlation-1",
        "causationid": "cause-1",
        "dataschema": f"urn:eventfleet:schema:{name}",
        "specversion": "1.0",
    }
    return pretty(json.dumps(record))


def completed(record: Any, draft: Any) -> Any:
    """A record with what it says nothing of yet, because a field is newer than it."""
    match record, draft:
        case dict(), dict():
            return {name: completed(value, draft.get(name)) for name, value in record.items()} | {
                name: value for name, value in draft.items() if name not in record
            }
        case list(), [first, *_]:
            return [completed(one, first) for one in record]
        case _:
            return record


def pretty(raw: str | bytes) -> bytes:
    """A record as it is kept: one line for each field, so that a change is seen in a diff."""
    return json.dumps(json.loads(raw), indent=2, ensure_ascii=False).encode() + b"\n"


def pretty_shapes(shapes: Shapes) -> bytes:
    """Shapes as they are kept: one line for each path."""
    lines = [f"  {json.dumps(path)}: {msgspec.json.encode(shape).decode()}" for path, shape in shapes.items()]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def _value(info: inspect.Type, name: str) -> Any:
    match info:
        case inspect.Metadata(type=inner):
            return _value(inner, name)
        case inspect.StructType(fields=fields):
            return {field.encode_name: _value(field.type, field.encode_name) for field in fields}
        case inspect.UnionType(types=types):
            return _value(next(one for one in types if not isinstance(one, inspect.NoneType)), name)
        case inspect.VarTupleType(item_type=item) | inspect.ListType(item_type=item):
            return [_value(item, name.removesuffix("s"))]
        case inspect.DictType(value_type=value):
            return {f"{name}-1": _value(value, name)}
        case inspect.EnumType(cls=cls):
            return next(iter(cls)).value
        case inspect.BoolType():
            return True
        case inspect.IntType(ge=least):
            return max(2, least or 0)
        case inspect.DecimalType():
            return "12.50"
        case inspect.DateTimeType():
            return datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).isoformat().replace("+00:00", "Z")
        case inspect.StrType():
            return LIKELY.get(name, f"{name.removesuffix('_id')}-1")
        case _:
            raise TypeError(f"{name}: {info} cannot be drafted: write the record by hand")
