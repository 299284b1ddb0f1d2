"""JSON Schema of records: a CloudEvent with the data of one message."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import msgspec

from app.kernel import Command
from app.runtime.codec import COMMAND_ID_CHARS_MAX, ID_CHARS_MAX
from app.runtime.schemas import DIALECT, TIME, Schema, schema_of
from app.schema.topics import Types

RECORDS = "urn:eventfleet:records"


def record_id(name: str) -> str:
    """The id of a record's schema. That of its data alone is in the record itself, as `dataschema`."""
    return f"urn:eventfleet:record:{name}"


def data_id(name: str) -> str:
    """The id of the schema of a message's data."""
    return f"urn:eventfleet:schema:{name}"


def record_schema(name: str, kind: type[msgspec.Struct]) -> Schema:
    """The schema of the records of one message, which stands by itself."""
    return {
        "$schema": DIALECT,
        "$id": record_id(name),
        **envelope(name, kind, {"$ref": data_id(name)}),
        "$defs": {"data": {"$schema": DIALECT, "$id": data_id(name), **schema_of(kind)}},
    }


def bundle(types: Types) -> Schema:
    """All of them in one document: a record is one of these."""
    return {
        "$schema": DIALECT,
        "$id": RECORDS,
        "title": "Records of an Eventfleet",
        "oneOf": [{"$ref": record_id(name)} for name in types],
        "$defs": {name: record_schema(name, kind) for name, kind in types.items()},
    }


def envelope(name: str, kind: type[msgspec.Struct], data: Mapping[str, Any]) -> Schema:
    """A CloudEvent of one type, in structured mode, around its data."""
    chars_max = COMMAND_ID_CHARS_MAX if issubclass(kind, Command) else ID_CHARS_MAX
    return {
        "title": kind.__name__,
        "description": about(kind),
        "type": "object",
        "required": ["specversion", "id", "type", "source", "subject", "time", "data"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": {"type": "string", "minLength": 1, "maxLength": chars_max},
            "type": {"const": name},
            "source": {"type": "string", "format": "uri-reference"},
            "subject": {"type": "string", "description": "The aggregate's id: the record's key."},
            "time": TIME,
            "version": _version(kind),
            "correlationid": {"type": "string", "description": "The id of the command that all this began with."},
            "causationid": {"type": "string", "description": "The id of the message that this one follows from."},
            "dataschema": {"type": "string", "format": "uri"},
            "data": data,
        },
    }


def about(kind: type[Any]) -> str:
    """What the type's docstring says."""
    return " ".join((inspect.getdoc(kind) or "").split())


def _version(kind: type[Any]) -> Schema:
    if issubclass(kind, Command):
        return {
            "type": "integer",
            "minimum": 0,
            "description": "The version that the sender expects the stream to be at.",
        }
    return {"type": "integer", "minimum": 0, "description": "The place in the stream, from 1 on without gaps."}
