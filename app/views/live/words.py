"""Times, sums and names as people read them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from app.views.live.html import Html, tag

SHORT_CHARS = 18


def ago(then: datetime, now: datetime) -> str:
    """How long ago, in one unit."""
    seconds = max(0, int((now - then).total_seconds()))
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit} ago"
    return f"{seconds} s ago"


def lasted(span: timedelta) -> str:
    """A span of time, as exact as it is of interest."""
    seconds = span.total_seconds()
    if abs(seconds) < 1:
        return f"{seconds * 1000:.0f} ms"
    if abs(seconds) < 120:
        return f"{seconds:.1f} s"
    return str(timedelta(seconds=round(seconds)))


def clock(at: datetime) -> str:
    """The time of day, in UTC, to the millisecond."""
    return f"{at.astimezone(UTC):%H:%M:%S}.{at.astimezone(UTC).microsecond // 1000:03d}"


def time_of(at: datetime, text: str) -> Html:
    """A moment, exact for machines and on hovering."""
    exact = at.astimezone(UTC).isoformat(timespec="milliseconds")
    return tag("time", text, datetime=exact, title=exact)


def money(amount: Decimal) -> str:
    """An amount, to the cent, with thousands apart."""
    return f"{amount:,.2f}"


def short(id_: str) -> str:
    """An id with its middle left out where it is long: ids that come together share their beginnings."""
    return id_ if len(id_) <= SHORT_CHARS else f"{id_[:7]}…{id_[-8:]}"


def headline(wire_name: str) -> str:
    """`order.inventory-reserved.v1` → Order inventory reserved."""
    words = re.sub(r"\.v\d+$", "", wire_name).replace(".", " ").replace("-", " ").replace("_", " ")
    return words[:1].upper() + words[1:]
