"""HTML that is safe by construction: text becomes part of a page through `tag` alone, which escapes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import TypeAlias

from aiohttp import web

VOID = frozenset({"meta", "link", "br", "hr"})

SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Vary": "Accept",
}


class Html(str):
    """Text that is HTML already. Only `tag` and `join` make it."""

    __slots__ = ()


Child: TypeAlias = "str | int | Iterable[str | None] | None"


def tag(name: str, /, *children: Child, **attributes: str | int | bool | None) -> Html:
    """An element. Children that are not `Html` are text. `class_` is written class, `data_id` data-id."""
    told = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in VOID:
        return Html(f"<{name}{told}>")
    return Html(f"<{name}{told}>{join(*children)}</{name}>")


def join(*children: Child) -> Html:
    """Children side by side."""
    return Html("".join(map(_text, children)))


def _text(child: Child) -> str:
    match child:
        case None:
            return ""
        case Html():
            return child
        case str() | int():
            return escape(str(child))
        case _:
            return "".join(_text(one) for one in child)


def _attribute(key: str, value: str | int | bool | None) -> str:
    name = key.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'


def page(title: str, *body: Child, head: Child = None) -> Html:
    """A whole document."""
    document = tag(
        "html",
        tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="color-scheme", content="light dark"),
            tag("title", title),
            head,
        ),
        tag("body", *body),
        lang="en",
    )
    return Html(f"<!doctype html>\n{document}")


def html_answer(body: str, status: int = 200) -> web.Response:
    """The answer with a page, or a part of one."""
    return web.Response(text=body, status=status, content_type="text/html", charset="utf-8", headers=SECURITY_HEADERS)


def wants_html(request: web.Request) -> bool:
    """Whether a page is wanted: browsers say so. All others get JSON."""
    return "text/html" in request.headers.get("Accept", "")
