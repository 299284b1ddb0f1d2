"""AsyncAPI 3.0: every topic of the fleet as a channel, every message with its schema and an example."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from app.runtime.schemas import Schema, schemas_of
from app.runtime.settings import Settings
from app.schema.json_schema import about, envelope
from app.schema.topics import DescribedTopic, types_of

BINDING = "0.5.0"
JSON = "application/json"
RECEIVES = ("commands",)
"""What the fleet takes from others; everything else it sends."""

Examples = Mapping[str, Any]
"""A record for each wire name."""


def asyncapi(topics: Sequence[DescribedTopic], settings: Settings, examples: Examples) -> dict[str, Any]:
    """The document."""
    types = types_of(topics)
    kinds = list(dict.fromkeys(types.values()))
    data, components = schemas_of(kinds)
    by_kind = dict(zip(kinds, data, strict=True))
    messages = {
        name: {
            "name": name,
            "title": kind.__name__,
            "summary": about(kind),
            "contentType": JSON,
            "payload": envelope(name, kind, by_kind[kind]),
            "bindings": {"kafka": {"key": {"type": "string"}, "bindingVersion": BINDING}},
            **({"examples": [{"name": name, "payload": examples[name]}]} if name in examples else {}),
        }
        for name, kind in types.items()
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Eventfleet",
            "version": version("eventfleet"),
            "description": "An event-sourced order-processing fleet. Records are structured CloudEvents 1.0, JSON.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": JSON,
        "servers": {"kafka": {"host": settings.brokers.partition(",")[0], "protocol": "kafka"}},
        "channels": {topic.name: _channel(topic, settings) for topic in topics},
        "operations": {operation: told for topic in topics for operation, told in _operations(topic)},
        "components": {"schemas": components, "messages": messages},
    }


def read_examples(directory: Path) -> dict[str, Any]:
    """The golden records, where there are any."""
    return {path.stem: json.loads(path.read_bytes()) for path in sorted(directory.glob("*.json"))}


def _channel(described: DescribedTopic, settings: Settings) -> dict[str, Any]:
    topic = described.topic
    return {
        "address": topic.name,
        "description": described.about,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in described.types},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions or settings.partitions,
                "replicas": settings.replication,
                "topicConfiguration": {name: _configured(name, value) for name, value in topic.config.items()},
                "bindingVersion": BINDING,
            }
        },
    }


def _configured(name: str, value: str) -> Any:
    return value.split(",") if name == "cleanup.policy" else int(value) if value.lstrip("-").isdigit() else value


def _operations(described: DescribedTopic) -> list[tuple[str, Schema]]:
    """What others may do with a topic that carries messages: the fleet receives from it, or sends to it."""
    if not described.types:
        return []
    action = "receive" if described.name.rpartition(".")[2] in RECEIVES else "send"
    channel = {"$ref": f"#/channels/{described.name}"}
    return [(f"{action}.{described.name}", {"action": action, "channel": channel, "summary": described.about})]
