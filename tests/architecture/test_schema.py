"""`fleet schema` tells the truth: its documents are valid, complete, and the golden records are what they say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator, Draft202012Validator

from app.catalogue import CATALOGUE
from app.cli.schema import ASYNCAPI, JSON_SCHEMA, document, files
from app.kernel.errors import ConfigurationRefused
from app.runtime.settings import Settings
from app.runtime.topics import Topic
from app.schema.topics import describe
from tests.conftest import ROOT
from tests.golden.keeping import DIRECTORY, OTHERS, forms_of

SETTINGS = Settings()
WRITTEN = forms_of(CATALOGUE.aggregates, OTHERS).written
SINGLE = files(JSON_SCHEMA, SETTINGS, DIRECTORY)
SPECIFICATION = json.loads((ROOT / "tests/vendored/asyncapi-3.0.0.json").read_bytes())


def golden(name: str) -> Any:
    return json.loads((DIRECTORY / f"{name}.json").read_bytes())


def references(document: Any) -> Iterator[str]:
    match document:
        case {"$ref": str(reference)}:
            yield reference
        case dict():
            for value in document.values():
                yield from references(value)
        case list():
            for value in document:
                yield from references(value)
        case _:
            pass


def resolve(document: Any, reference: str) -> Any:
    for step in reference.removeprefix("#/").split("/"):
        document = document[step]
    return document


@pytest.fixture(scope="module")
def bundle() -> Draft202012Validator:
    """All records, in one document."""
    schema = document(JSON_SCHEMA, SETTINGS, DIRECTORY)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


@pytest.fixture(scope="module")
def asyncapi() -> dict[str, Any]:
    """All topics."""
    return document(ASYNCAPI, SETTINGS, DIRECTORY)


@pytest.mark.parametrize("name", WRITTEN)
def test_golden_records_are_as_the_schemas_say(name: str) -> None:
    told = SINGLE[f"{name}.schema.json"]
    Draft202012Validator.check_schema(told)
    Draft202012Validator(told).validate(golden(name))


@pytest.mark.parametrize("name", ["order.created.v1", "order.create.v1", "command.rejected.v1"])
def test_golden_records_are_one_of_all(bundle: Draft202012Validator, name: str) -> None:
    bundle.validate(golden(name))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("specversion", "0.3"),
        ("type", "order.imagined.v1"),
        ("time", 12),
        ("data.total", 7.5),
        ("data.total", "NaN"),
        ("data.items.0.quantity", "2"),
        ("data.order_id", None),
    ],
)
def test_the_schemas_refuse_what_is_not_so(bundle: Draft202012Validator, path: str, value: Any) -> None:
    record = golden("order.created.v1")
    *steps, last = path.split(".")
    place = record
    for step in steps:
        place = place[int(step)] if isinstance(place, list) else place[step]
    place[last] = value
    assert not bundle.is_valid(record)


def test_asyncapi_is_valid_by_its_specification(asyncapi: dict[str, Any]) -> None:
    Draft7Validator(SPECIFICATION).validate(asyncapi)
    assert not Draft7Validator(SPECIFICATION).is_valid({**asyncapi, "channels": {"x": {"adress": "x"}}})
    for reference in references(asyncapi):
        resolve(asyncapi, reference)


def test_asyncapi_has_every_topic_and_every_message_with_an_example(asyncapi: dict[str, Any]) -> None:
    channels = asyncapi["channels"]
    assert {channel["address"] for channel in channels.values()} == {t.name for t in CATALOGUE.topics(SETTINGS)}
    assert all(channel["description"] for channel in channels.values())
    carried = {name for channel in channels.values() for name in channel["messages"]}
    assert carried == set(asyncapi["components"]["messages"]) == set(WRITTEN)
    for name, message in asyncapi["components"]["messages"].items():
        assert message["examples"][0]["payload"] == golden(name)
        assert message["summary"], f"{name} has no docstring"
    actions = {name: operation["action"] for name, operation in asyncapi["operations"].items()}
    assert actions["receive.orders.commands"] == "receive"
    assert actions["send.orders.events"] == "send"
    assert "customer.registered.v1" in channels["customers.events"]["description"]


def test_prefixed_fleets_tell_their_own_topics() -> None:
    told = document(ASYNCAPI, Settings(topic_prefix="blue."), DIRECTORY)
    assert told["channels"]["orders.events"]["address"] == "blue.orders.events"


def test_a_topic_without_words_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    topics = [*CATALOGUE.topics(SETTINGS), Topic("orders.riddles")]
    monkeypatch.setattr(type(CATALOGUE), "topics", lambda *_: topics)
    with pytest.raises(ConfigurationRefused, match=r"nothing says what the topic orders[.]riddles"):
        describe(CATALOGUE, SETTINGS)
    topics[-1] = Topic("orders.riddles", about="Riddles.")
    assert describe(CATALOGUE, SETTINGS)[-1].about == "Riddles."


def test_the_command_prints_and_writes(tmp_path: Path) -> None:
    def fleet(*arguments: str) -> str:
        command = [sys.executable, "-m", "app.cli.main", "schema", *arguments]
        return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, env=os.environ).stdout

    assert json.loads(fleet("--format", "asyncapi"))["asyncapi"] == "3.0.0"
    fleet("--out", str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.schema.json" for name in WRITTEN}
