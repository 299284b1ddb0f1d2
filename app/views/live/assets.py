"""The page's own files, from the package: styles, a script, an icon. Addresses carry a digest, so they may be kept."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files

from aiohttp import web

from app.views.operations import Answer, Operation, serve
from app.views.problems import Problem

CONTENT_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
HEADERS = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}


@dataclass(frozen=True)
class Asset:
    """One file and where it is served."""

    name: str
    body: bytes

    @property
    def url(self) -> str:
        """Its address: another one for another content."""
        return f"/assets/{hashlib.sha256(self.body).hexdigest()[:12]}/{self.name}"

    @property
    def content_type(self) -> str:
        """By its name."""
        return CONTENT_TYPES[self.name.rpartition(".")[2]]


def _load(name: str) -> Asset:
    return Asset(name, (files("app.views.live") / "assets" / name).read_bytes())


STYLE, SCRIPT, ICON = _load("live.css"), _load("live.js"), _load("icon.svg")
BY_NAME = {asset.name: asset for asset in (STYLE, SCRIPT, ICON)}


def add_assets(web_app: web.Application) -> None:
    """Add the route."""
    says = {200: Answer("The file.", {"type": "string"}, media="text/css")}
    told = Operation(
        "GET", "/assets/{digest}/{name}", "The pages' styles, script and icon", says, "live", problems=(404,)
    )
    serve(web_app, told, _get)


async def _get(request: web.Request) -> web.Response:
    """One file. An old digest gets the present content: a page that was open during an update goes on."""
    asset = BY_NAME.get(request.match_info["name"])
    if asset is None:
        raise Problem(404, "not_found", "There is no such file")
    current = asset.url == request.path
    return web.Response(
        body=asset.body,
        content_type=asset.content_type,
        charset="utf-8",
        headers=HEADERS if current else HEADERS | {"Cache-Control": "no-store"},
    )
