"""`GET /openapi.json` tells the truth: it is valid, and describes every route that is served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from openapi_spec_validator import OpenAPIV31SpecValidator

from app.catalogue import CATALOGUE
from app.runtime.settings import Settings
from app.views.openapi import openapi
from app.views.operations import SERVED
from tests.architecture.test_schema import references, resolve


@pytest.fixture(scope="module")
def web_app(tmp_path_factory: pytest.TempPathFactory) -> web.Application:
    """The routes of a worker, which is not started."""
    directory: Path = tmp_path_factory.mktemp("openapi")
    from app.main import make_app

    app: Any = make_app(Settings(data_dir=directory))
    made: web.Application = app.web.web_app
    return made


@pytest.fixture(scope="module")
def document(web_app: web.Application) -> dict[str, Any]:
    """The document of that worker."""
    return openapi(web_app[SERVED])


def undescribed(web_app: web.Application) -> set[tuple[str, str]]:
    """Routes that are served, but were not added by `serve`."""
    routes = {
        (route.method, route.resource.canonical)
        for route in web_app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    return routes - web_app[SERVED].routes


def test_every_route_is_described(web_app: web.Application) -> None:
    assert undescribed(web_app) == set(), "add routes with app.views.operations.serve"


def test_a_route_that_is_not_described_is_noticed(tmp_path: Path) -> None:
    from app.main import make_app

    app: Any = make_app(Settings(data_dir=tmp_path))

    async def secret(_: web.Request) -> web.Response:
        return web.Response()

    app.web.web_app.router.add_get("/secret", secret)
    assert undescribed(app.web.web_app) == {("GET", "/secret")}


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(document).validate()
    assert not OpenAPIV31SpecValidator({**document, "paths": {"/x": {"get": {"parameters": 1}}}}).is_valid()
    for reference in references(document):
        resolve(document, reference)


def test_the_document_has_every_command_and_read_model(document: dict[str, Any]) -> None:
    paths = document["paths"]
    for kind in CATALOGUE.commands():
        (body,) = paths[f"/commands/{kind.__name__}"]["post"]["requestBody"]["content"].values()
        assert body["schema"] == {"$ref": f"#/components/schemas/{kind.__name__}Input"}
    for projection in CATALOGUE.projections:
        path = f"/{projection.name}/{{id}}" if projection.listing is None else projection.listing.path
        answer = paths[path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        assert projection.row.__name__ in answer["$ref"]
    names = [operation["operationId"] for path in paths.values() for operation in path.values()]
    assert len(set(names)) == len(names)


def test_what_workers_ask_each_other_is_not_in_it(document: dict[str, Any]) -> None:
    told = {parameter["name"] for parameter in document["paths"]["/orders"]["get"]["parameters"]}
    assert told == {"after", "limit"}


def test_money_is_taken_as_text_or_number_and_told_as_text(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert schemas["ItemInput"]["properties"]["price"]["type"] == ["string", "number"]
    assert schemas["Item"]["properties"]["price"]["type"] == "string"
    assert schemas["OrderRow"]["properties"]["created_at"]["format"] == "date-time"
