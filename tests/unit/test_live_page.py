"""What the pages show, and that nothing of what people write becomes part of a page."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from typing import Any

import msgspec
import pytest

from app.domain.order import Item, OrderStatus
from app.projections.orders import OrderRow
from app.runtime.codec import CloudEvent
from app.views.live.activity import Raised
from app.views.live.html import SECURITY_HEADERS, Html, html_answer, join, tag
from app.views.live.live_page import live_page, live_part
from app.views.live.snapshot import GroupLag, LastMinute, Snapshot
from app.views.live.timeline import Standing, timeline_page
from app.views.live.words import ago, headline, lasted, money, short

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&</td>{{7*7}}"


class Elements(HTMLParser):
    """Every element with its attributes, and all text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def attributes(self, tag: str, name: str) -> list[str]:
        return [value for found, attrs in self.found if found == tag and (value := attrs.get(name)) is not None]


def order(id_: str = "o-1", name: str = "Ada", **more: Any) -> OrderRow:
    items = (Item("p", 2, Decimal("3.50")),)
    return OrderRow(
        id_, 1, more.pop("status", OrderStatus.CREATED), "c-1", name, "a@example.org", items, Decimal("1234.5"), NOON
    )


def snapshot(**more: Any) -> Snapshot:
    told: dict[str, Any] = {
        "at": NOON + timedelta(seconds=5),
        "orders_per_s": 2.5,
        "per_second": tuple(range(60)),
        "last_minute": LastMinute(1770, Decimal("98765.4")),
        "lag": (GroupLag("eventfleet-all", 12, 2),),
        "orders": (order(),),
        "alerts": (Raised("e:high-value", "high-value", "o-1", NOON),),
    }
    return Snapshot(**told | more)


def test_the_page_has_all_figures_without_any_script() -> None:
    page = Elements(live_page(snapshot()))
    for figure in ("2.5", "1,770", "98,765.40", "eventfleet-all", "12", "o-1", "Ada", "1,234.50", "created", "5 s ago"):
        assert figure in page.text
    assert "High value" in page.text
    assert page.attributes("a", "href").count("/orders/o-1/timeline") == 2
    assert len([1 for tag, attrs in page.found if tag == "rect" and attrs.get("rx")]) == 59
    assert page.attributes("html", "lang") == ["en"]
    assert page.attributes("meta", "http-equiv") == ["refresh"]


def test_the_part_that_changes_is_the_same_as_in_the_page() -> None:
    assert live_part(snapshot()) in live_page(snapshot())


def test_an_empty_fleet_has_a_page_too() -> None:
    empty = snapshot(orders=(), alerts=(), per_second=(0,) * 60, last_minute=LastMinute(0), unreachable=("worker-2",))
    page = Elements(live_page(empty))
    assert "No orders yet" in page.text
    assert "No answer from worker-2" in page.text
    assert "Worth" not in page.text


def test_hostile_text_stays_text() -> None:
    hostile = snapshot(
        orders=(order(HOSTILE, HOSTILE),),
        alerts=(Raised(HOSTILE, HOSTILE, HOSTILE, NOON),),
        lag=(GroupLag(HOSTILE, 1, 1),),
        unreachable=(HOSTILE,),
    )
    harmless = Elements(live_page(snapshot(unreachable=("w",))))
    page = Elements(live_page(hostile))
    assert [tag for tag, _ in page.found] == [tag for tag, _ in harmless.found]
    assert [sorted(attrs) for _, attrs in page.found] == [sorted(attrs) for _, attrs in harmless.found]
    assert HOSTILE in page.text
    assert all("<" not in href and '"' not in href for href in page.attributes("a", "href"))
    assert "/orders/%3Cscript%3Ealert%281%29%3C%2Fscript%3E" in page.attributes("a", "href")[1]


def test_hostile_text_stays_text_in_a_timeline() -> None:
    def page_of(text: str) -> Elements:
        data = {"order_id": "o", text: text, "items": [{text: text}], "list": [text], "more": {text: text}}
        raw = msgspec.Raw(json.dumps(data).encode())
        event = CloudEvent("e", text, "/s", text, NOON, raw, 1, text, text)
        standing = Standing(text, {"state": text}, NOON, False, text, {text: NOON})
        return Elements(timeline_page("orders", text, [event], [standing]))

    hostile, harmless = page_of(HOSTILE), page_of("harmless")
    assert [tag for tag, _ in hostile.found] == [tag for tag, _ in harmless.found]
    assert [sorted(attrs) for _, attrs in hostile.found] == [sorted(attrs) for _, attrs in harmless.found]
    assert HOSTILE in hostile.text


def test_a_timeline_tells_what_came_when_and_why() -> None:
    def event(version: int, type_: str, data: dict[str, Any], after_ms: int) -> CloudEvent:
        raw = msgspec.Raw(json.dumps(data).encode())
        time = NOON + timedelta(milliseconds=after_ms)
        return CloudEvent(f"e{version}", type_, "/s", "o-1", time, raw, version, "correlation-1", f"command-{version}")

    created = {"order_id": "o-1", "customer_name": "Ada", "items": [{"product_id": "p-1", "quantity": 2}], "total": "7"}
    events = [
        event(1, "order.created.v1", created, 0),
        event(2, "order.inventory-reserved.v1", {"order_id": "o-1"}, 250),
        event(3, "order.payment-processed.v1", {"order_id": "o-1", "amount": "7"}, 90_250),
    ]
    standing = Standing("fulfilment", {"stage": "paying"}, NOON, False, "the payment", {"pay_by": NOON})
    page = Elements(timeline_page("orders", "o-1", events, [standing]))
    for text in (
        "3 events in 90.2 s",
        "Order created",
        "Order inventory reserved",
        "+250 ms",
        "+90.0 s",
        "caused by command-3",
        "customer name",
        "product id",
        "Fulfilment",
        "waits for the payment",
        "pay by at 12:00:00.000 UTC",
        "fleet trace correlation-1",
    ):
        assert text in page.text, text
    assert page.attributes("li", "id") == ["v1", "v2", "v3"]


def test_a_timeline_has_an_end() -> None:
    assert "no later events" in Elements(timeline_page("orders", "o-1", [], [], after=7)).text


@pytest.mark.parametrize("name", ["page", "part"])
def test_pages_bring_nothing_from_elsewhere_and_run_no_script_of_their_own(name: str) -> None:
    html = live_page(snapshot()) if name == "page" else live_part(snapshot())
    page = Elements(html)
    for tag_, attrs in page.found:
        assert not [key for key in attrs if key.startswith("on") or key == "style"], (tag_, attrs)
        address = attrs.get("src") or (attrs.get("href") if tag_ == "link" else None)
        assert address is None or address.startswith("/assets/")
    assert "http://" not in html
    assert "https://" not in html


def test_every_page_says_what_a_browser_may_do() -> None:
    answer = html_answer("x")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.content_type == "text/html"
    assert SECURITY_HEADERS["Vary"] == "Accept"


def test_text_is_escaped_unless_a_tag_made_it() -> None:
    assert tag("p", "<b>", tag("b", "&")) == "<p>&lt;b&gt;<b>&amp;</b></p>"
    assert tag("a", href='"><x>', hidden=True, title=None) == '<a href="&quot;&gt;&lt;x&gt;" hidden></a>'
    assert join("<", ["<", None, [Html("<br>")]]) == "&lt;&lt;<br>"  # type: ignore[list-item]


def test_words() -> None:
    assert [ago(NOON, NOON + timedelta(seconds=s)) for s in (-3, 5, 65, 7_200, 200_000)] == [
        "0 s ago",
        "5 s ago",
        "1 min ago",
        "2 h ago",
        "2 d ago",
    ]
    assert lasted(timedelta(milliseconds=12)) == "12 ms"
    assert lasted(timedelta(hours=3)) == "3:00:00"
    assert money(Decimal("1234567.891")) == "1,234,567.89"
    assert headline("order.payment-processed.v12") == "Order payment processed"
    assert short("order-1") == "order-1"
    assert short("o1a210a52e14-000123") == "o1a210a…4-000123"
