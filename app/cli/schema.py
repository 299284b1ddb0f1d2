"""`fleet schema`: what is on the wire, for other programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.catalogue import CATALOGUE
from app.runtime.settings import Settings
from app.schema.asyncapi import asyncapi, read_examples
from app.schema.json_schema import bundle, record_schema
from app.schema.topics import describe, types_of

JSON_SCHEMA, ASYNCAPI = "json-schema", "asyncapi"
FORMATS = (JSON_SCHEMA, ASYNCAPI)


def document(format_: str, settings: Settings, examples: Path) -> dict[str, Any]:
    """The one document that is printed."""
    topics = describe(CATALOGUE, settings)
    if format_ == ASYNCAPI:
        return asyncapi(topics, settings, read_examples(examples))
    return bundle(types_of(topics))


def files(format_: str, settings: Settings, examples: Path) -> Mapping[str, dict[str, Any]]:
    """The documents that are written into a directory, by file name."""
    if format_ == ASYNCAPI:
        return {"asyncapi.json": document(format_, settings, examples)}
    types = types_of(describe(CATALOGUE, settings))
    return {f"{name}.schema.json": record_schema(name, kind) for name, kind in types.items()}


def pretty(told: dict[str, Any]) -> str:
    """As people read it."""
    return json.dumps(told, indent=2, ensure_ascii=False)
