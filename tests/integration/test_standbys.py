"""Standbys: a killed worker's rows are answered at once, a moment old, and it is soon replaced without a rebuild."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from typing import Any

from tests.integration.fleet import SESSION_TIMEOUT_S, TestedFleet, kill, until

ORDERS = 60
RATE = 40.0


def get(url: str) -> tuple[Any, dict[str, str]]:
    """The body and the headers of a good answer."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer), {name.lower(): value for name, value in answer.headers.items()}


async def test_a_killed_workers_rows_are_answered_by_its_standby_until_it_is_replaced(fleet: TestedFleet) -> None:
    one, two = fleet.worker("one"), fleet.worker("two")
    await fleet.up(one, two)

    async def nothing() -> None:
        return

    driven = await fleet.load(ORDERS, RATE, [one.url, two.url], nothing)
    assert driven.mismatches == []
    page, _ = get(f"{two.url}/orders?limit=1000")
    ids = [row["order_id"] for row in page["items"]]
    assert len(ids) == ORDERS

    def caught_up() -> bool:
        standbys = (two.readiness() or {}).get("standbys", {})
        return bool(standbys) and all(one["caught_up"] and not one["behind"] for one in standbys.values())

    await until(caught_up, 10)
    await kill(one)
    answers = [await asyncio.to_thread(get, f"{two.url}/orders/{order_id}") for order_id in ids]
    stale = [headers["eventfleet-stale"] for _, headers in answers if "eventfleet-stale" in headers]
    assert [body["order_id"] for body, _ in answers] == ids
    assert len(stale) > ORDERS / 10, "what the killed worker served was not answered by its standby"
    page, headers = await asyncio.to_thread(get, f"{two.url}/orders?limit=1000")
    assert [row["order_id"] for row in page["items"]] == ids
    assert headers["eventfleet-stale"] == "standby"

    def two_serves_everything() -> bool:
        told = two.readiness() or {}
        return bool(told.get("ready")) and len(told["buckets"]) == fleet.settings.buckets

    await until(two_serves_everything, SESSION_TIMEOUT_S + 10)
    restored = sum(float(line.split()[-1]) for line in metrics(two.url) if line.startswith("eventfleet_rows_restored"))
    assert restored < 500, "the standby's rows were not taken over"
    found = await fleet.recount([two.url])
    assert found.examples == []
    assert "eventfleet-stale" not in get(f"{two.url}/orders/{ids[0]}")[1]


def metrics(url: str) -> list[str]:
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
        return list(answer.read().decode().splitlines())
