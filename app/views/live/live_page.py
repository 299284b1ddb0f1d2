"""The live page: what a snapshot looks like. Rendered here alone; the script only asks for it again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from urllib.parse import quote

from app.projections.orders import ORDERS, OrderRow
from app.views.live.activity import Raised
from app.views.live.assets import ICON, SCRIPT, STYLE
from app.views.live.html import Child, Html, join, page, tag
from app.views.live.snapshot import GroupLag, Snapshot
from app.views.live.words import ago, clock, headline, money, short, time_of

WIDTH, HEIGHT = 600, 72
REFRESH_WITHOUT_SCRIPT_S = 5


def timeline_url(category: str, id_: str) -> str:
    """Where a stream's timeline is."""
    return f"/{category}/{quote(id_, safe='')}/timeline"


def head(*more: Child) -> Html:
    """What every page's head has."""
    return join(tag("link", rel="stylesheet", href=STYLE.url), tag("link", rel="icon", href=ICON.url), *more)


def masthead(*more: Child) -> Html:
    """The line on top of every page."""
    name = tag("a", tag("span", class_="mark", aria_hidden="true"), "Eventfleet", href="/", class_="brand")
    return tag("header", name, *more, class_="masthead")


def live_page(snapshot: Snapshot) -> Html:
    """The whole page."""
    status = tag("p", tag("span", "Snapshot", id="status-text"), id="status", class_="status", role="status")
    without = tag("noscript", tag("meta", http_equiv="refresh", content=REFRESH_WITHOUT_SCRIPT_S))
    return page(
        "Eventfleet, live",
        masthead(status),
        tag("main", live_part(snapshot), id="live", tabindex="-1"),
        _footer(),
        head=head(without, tag("script", src=SCRIPT.url, defer=True)),
    )


def live_part(snapshot: Snapshot) -> Html:
    """What changes, between `<main>` and `</main>`."""
    return join(
        tag("h1", "The fleet, live", class_="unseen"),
        _figures(snapshot),
        tag(
            "div",
            _orders(snapshot.orders, snapshot.at),
            tag("div", _alerts(snapshot.alerts, snapshot.at), _lag(snapshot), class_="side"),
            class_="columns",
        ),
        tag("p", "As of ", time_of(snapshot.at, f"{clock(snapshot.at)} UTC"), class_="as-of"),
    )


def _figures(snapshot: Snapshot) -> Html:
    minute = snapshot.last_minute
    total = None if minute.total is None else _figure("Worth, last 60 s", money(minute.total), "total-minute")
    behind = sum(group.records for group in snapshot.lag)
    rate = tag(
        "div",
        tag("dt", "Orders per second"),
        tag("dd", f"{snapshot.orders_per_s:,.1f}", data_figure="orders-per-s"),
        _spark(snapshot.per_second),
        class_="figure wide",
    )
    return tag(
        "dl",
        rate,
        _figure("Orders, last 60 s", f"{minute.count:,}", "orders-minute"),
        total,
        _figure("Records waiting", f"{behind:,}", "lag", mood="busy" if behind > BUSY_RECORDS else None),
        class_="figures",
    )


BUSY_RECORDS = 1_000


def _figure(name: str, value: str, key: str, mood: str | None = None) -> Html:
    return tag("div", tag("dt", name), tag("dd", value, data_figure=key), class_=f"figure {mood or ''}".strip())


def _spark(per_second: Sequence[int]) -> Html:
    """Orders in each of the last 60 s, as bars."""
    most = max([*per_second, 1])
    step = WIDTH / max(len(per_second), 1)
    bars = [
        tag(
            "rect",
            x=f"{number * step + 1:.1f}",
            y=f"{HEIGHT - count / most * HEIGHT:.1f}",
            width=f"{step - 2:.1f}",
            height=f"{count / most * HEIGHT:.1f}",
            rx="1.5",
        )
        for number, count in enumerate(per_second)
        if count
    ]
    label = f"Orders in each of the last {len(per_second)} seconds, at most {most} in one"
    floor = tag("rect", x=0, y=HEIGHT - 1, width=WIDTH, height=1, class_="floor")
    return tag(
        "svg",
        floor,
        bars,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        preserveAspectRatio="none",
        role="img",
        aria_label=label,
        class_="spark",
    )


def _orders(orders: Sequence[OrderRow], now: datetime) -> Html:
    columns = ("Order", "Customer", "Items", "Total", "Status", "Created")
    rows = [_order(row, now) for row in orders]
    table = tag(
        "table",
        tag("thead", tag("tr", [tag("th", name, scope="col", class_=_column(name)) for name in columns])),
        tag("tbody", rows),
    )
    empty = tag("p", "No orders yet. They appear here as they come in.", class_="empty")
    return tag("section", tag("h2", "Newest orders"), table if rows else empty, class_="card orders")


def _column(name: str) -> str:
    return {"Status": "state"}.get(name, name.lower())


def _order(row: OrderRow, now: datetime) -> Html:
    link = tag("a", short(row.order_id), href=timeline_url(ORDERS.category, row.order_id), title=row.order_id)
    return tag(
        "tr",
        tag("th", link, scope="row", class_="order"),
        tag("td", row.customer_name, class_="customer"),
        tag("td", sum(item.quantity for item in row.items), class_="items"),
        tag("td", money(row.total), class_="total"),
        tag("td", tag("span", row.status, class_=f"badge {row.status}"), class_="state"),
        tag("td", time_of(row.created_at, ago(row.created_at, now)), class_="created"),
        data_id=row.order_id,
        data_version=row.version,
    )


def _alerts(alerts: Sequence[Raised], now: datetime) -> Html:
    told = [
        tag(
            "li",
            tag("span", headline(alert.filter), class_="badge alert"),
            tag(
                "a", short(alert.stream_id), href=timeline_url(ORDERS.category, alert.stream_id), title=alert.stream_id
            ),
            time_of(alert.time, ago(alert.time, now)),
            data_id=alert.id,
        )
        for alert in alerts
    ]
    empty = tag("p", "Nothing to be told of.", class_="empty")
    return tag("section", tag("h2", "Alerts"), tag("ul", told) if told else empty, class_="card alerts")


def _lag(snapshot: Snapshot) -> Html:
    rows = [_group(group) for group in snapshot.lag]
    table = tag(
        "table",
        tag(
            "thead",
            tag("tr", [tag("th", name, scope="col") for name in ("Consumer group", "Workers", "Records waiting")]),
        ),
        tag("tbody", rows),
    )
    silent = snapshot.unreachable
    note = tag("p", f"No answer from {', '.join(silent)}: the figures lack theirs.", class_="note") if silent else None
    return tag("section", tag("h2", "Lag"), table, note, class_="card lag")


def _group(group: GroupLag) -> Html:
    return tag(
        "tr",
        tag("th", group.group, scope="row"),
        tag("td", group.workers),
        tag("td", f"{group.records:,}", data_lag=group.group),
    )


def _footer() -> Html:
    links = (("Feed", "/live"), ("Orders", "/orders"), ("Metrics", "/metrics"), ("Readiness", "/readyz"))
    return tag("footer", tag("nav", [tag("a", name, href=href) for name, href in links], aria_label="API"))
