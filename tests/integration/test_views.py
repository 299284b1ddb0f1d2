"""The views of a real fleet of two workers: any of them answers any key."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import aiohttp
import pytest
import pytest_asyncio

from app.local.kafka import LocalKafka
from tests.integration.fleet import TestedFleet, kill

pytestmark = pytest.mark.asyncio(loop_scope="module")

ORDERS = [f"order-{number:02d}" for number in range(12)]
PROBLEM = "application/problem+json"


class Answer(NamedTuple):
    """What came back."""

    status: int
    body: Any
    headers: Mapping[str, str]


class Client:
    """Asks the fleet's workers."""

    def __init__(self, session: aiohttp.ClientSession, fleet: TestedFleet) -> None:
        self._session = session
        self.fleet = fleet
        self.urls = [fleet.worker(name).url for name in ("one", "two")]

    async def ask(self, method: str, path: str, body: Any = None, worker: int = 0, **headers: str) -> Answer:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        data = None if body is None else io.BytesIO(raw)
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self._session.request(method, self.urls[worker] + path, data=data, headers=told) as got:
            raw = await got.read()
            is_json = "json" in got.headers.get("Content-Type", "")
            return Answer(got.status, json.loads(raw) if is_json and raw else raw.decode(), got.headers.copy())

    async def post(self, command: str, worker: int = 0, query: str = "", id_: str | None = None, **body: Any) -> Answer:
        headers = {} if id_ is None else {"Idempotency_Key": id_}
        return await self.ask("POST", f"/commands/{command}{query}", body, worker, **headers)

    async def create(self, order_id: str, worker: int = 0, id_: str | None = None) -> Answer:
        items = [{"product_id": "p", "quantity": 2, "price": "3.50"}]
        customer: Any = {"customer_id": "c", "customer_name": "Ann", "customer_email": "a@example.org"}
        return await self.post("CreateOrder", worker, id_=id_, order_id=order_id, items=items, **customer)

    async def create_patiently(self, order_id: str, worker: int) -> None:
        """Right after their start workers may not know of each other yet: a 503 is tried again, as it says."""
        async with asyncio.timeout(10):
            while (answer := await self.create(order_id, worker)).status == 503:  # noqa: ASYNC110 - as clients do
                await asyncio.sleep(float(answer.headers["Retry-After"]) / 10)
        assert answer.status == 201, answer

    async def get(self, path: str, worker: int = 0, **headers: str) -> Answer:
        return await self.ask("GET", path, None, worker, **headers)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    directory: Path = tmp_path_factory.mktemp("views")
    fleet = TestedFleet(kafka, "views.", directory)
    await fleet.make_topics()
    try:
        await fleet.up(fleet.worker("one"), fleet.worker("two"))
        async with aiohttp.ClientSession() as session:
            made = Client(session, fleet)
            for number, order_id in enumerate(ORDERS):
                await made.create_patiently(order_id, worker=number % 2)
            yield made
    finally:
        fleet.down()


async def test_any_worker_answers_any_key(client: Client) -> None:
    for order_id in ORDERS:
        for worker in (0, 1):
            row = await client.get(f"/orders/{order_id}?min_version=1", worker)
            assert row.status == 200
            assert (row.body["order_id"], row.body["status"], row.body["total"]) == (order_id, "created", "7.00")
            assert row.headers["ETag"] == '"1"'
            assert "views.orders.events/" in row.headers["Eventfleet-Position"]
            history = await client.get(f"/orders/{order_id}/history", worker)
            assert [event["type"] for event in history.body["events"]] == ["order.created.v1"]


async def test_life_of_an_order(client: Client) -> None:
    order: Any = {"order_id": "life"}
    assert (await client.create("life")).status == 201
    early = await client.post("ShipOrder", **order, tracking_number="t")
    assert (early.status, early.body["detail"]) == (409, "Can only ship paid order")
    assert early.headers["Content-Type"].startswith(PROBLEM)
    wrong = await client.post("ProcessPayment", **order, payment_id="p", amount="1.00")
    assert (wrong.status, wrong.body["reason"]) == (409, "payment_amount_mismatch")
    assert (await client.post("ProcessPayment", **order, payment_id="p", amount="7.00")).body["version"] == 2
    stale = await client.post("ShipOrder", query="?expected_version=1", **order, tracking_number="t")
    assert (stale.status, stale.body["type"]) == (409, "urn:eventfleet:problem:version_conflict")
    shipped = await client.post("ShipOrder", query="?expected_version=2", **order, tracking_number="t")
    assert (shipped.status, shipped.body["version"]) == (200, 3)
    assert (await client.post("ConfirmDelivery", **order)).body["version"] == 4
    row = (await client.get("/orders/life?min_version=4", 1)).body
    assert row["status"] == "delivered"
    assert row["created_at"] < row["paid_at"] < row["shipped_at"] < row["delivered_at"]
    page = await client.get("/orders/life/history?limit=2")
    assert ([e["version"] for e in page.body["events"]], page.body["next"]) == ([1, 2], 2)
    rest = await client.get("/orders/life/history?after=2", 1)
    assert ([e["version"] for e in rest.body["events"]], rest.body["next"]) == ([3, 4], None)


async def test_repeated_command_gets_its_first_answer(client: Client) -> None:
    first = await client.create("repeated", id_="key-1")
    again = await client.create("repeated", worker=1, id_="key-1")
    assert (first.status, first.body) == (again.status, again.body)
    assert (await client.create("repeated")).body["reason"] == "order_already_created"
    reused = await client.post("ConfirmDelivery", id_="key-1", order_id="repeated")
    assert (reused.status, reused.body["type"]) == (422, "urn:eventfleet:problem:command_id_reused")
    assert len((await client.get("/orders/repeated/history")).body["events"]) == 1


async def test_outcome_is_found_by_command_id(client: Client) -> None:
    await client.create("looked-up", id_="key-2")
    for worker in (0, 1):
        for query in ("", "?key=looked-up"):
            found = await client.get(f"/commands/key-2{query}", worker)
            assert (found.status, found.body["stream_id"], found.body["version"]) == (200, "looked-up", 1)
    assert (await client.get("/commands/never-sent")).status == 404


@pytest.mark.parametrize(
    ("command", "body", "status", "type_"),
    [
        ("CreateOrder", b"no json", 422, "invalid_command"),
        ("CreateOrder", b'{"order_id": "x"}', 422, "invalid_command"),
        ("ConfirmDelivery", b'{"order_id": "x", "order_id": "y"}', 422, "invalid_command"),
        ("ConfirmDelivery", b'{"order_id": "a\\nb"}', 422, "invalid_command"),
        ("ConfirmDelivery", b'{"order_id": "x", "note": "\xff"}', 422, "invalid_command"),
        (
            "ConfirmDelivery",
            b'{"order_id": "x", "note": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
            422,
            "invalid_command",
        ),
        ("ProcessPayment", b'{"order_id": "x", "payment_id": "p", "amount": NaN}', 422, "invalid_command"),
        ("ConfirmDelivery", b'{"order_id": ""}', 422, "invalid_command"),
        ("ConfirmDelivery", b'{"order_id": "' + b"x" * 129 + b'"}', 422, "invalid_command"),
        ("ConfirmDelivery?expected=1", b'{"order_id": "x"}', 422, "invalid_parameters"),
        ("ConfirmDelivery", b'{"order_id": "nobody"}', 409, "rejected"),
        ("DestroyOrder", b"{}", 404, "unknown_command"),
        ("ConfirmDelivery", b'{"order_id": "' + b"x" * (512 << 10) + b'"}', 413, "request_entity_too_large"),
    ],
)
async def test_bad_input_is_named(client: Client, command: str, body: bytes, status: int, type_: str) -> None:
    answer = await client.ask("POST", f"/commands/{command}", body)
    assert (answer.status, answer.body["type"]) == (status, f"urn:eventfleet:problem:{type_}")
    assert answer.body["detail"]


async def test_ids_that_nothing_can_have_are_named(client: Client) -> None:
    for path in (f"/orders/{'x' * 257}", "/orders/a%00b/history", "/commands/a%0Ab", "/chains/fulfilment/%C2%85"):
        answer = await client.get(path)
        assert (answer.status, answer.body["type"]) == (422, "urn:eventfleet:problem:invalid_id"), path
    for key in ("", "x" * 129, "ä", "a b"):
        answer = await client.post("ConfirmDelivery", id_=key, order_id="x")
        assert (answer.status, answer.body["type"]) == (422, "urn:eventfleet:problem:invalid_command_id"), key
    forbidden = await client.ask("DELETE", "/orders/x")
    assert (forbidden.status, forbidden.headers["Allow"]) == (405, "GET,HEAD")


async def test_pages_cover_everything_once_and_in_order(client: Client) -> None:
    for order_id in ORDERS:
        await client.get(f"/orders/{order_id}?min_version=1")
    for worker in (0, 1):
        seen: list[str] = []
        after: str | None = ""
        while after is not None:
            page = await client.get(f"/orders?limit=5&after={after}", worker)
            assert page.status == 200
            seen += [row["order_id"] for row in page.body["items"]]
            after = page.body["next"]
        assert seen == sorted(set(seen))
        assert set(ORDERS) <= set(seen)
    assert (await client.get("/orders?limit=0")).status == 422
    assert (await client.get("/orders?partitions=99")).status == 422


async def test_rows_of_the_past(client: Client) -> None:
    assert (await client.create("past")).status == 201
    first = (await client.get("/orders/past?min_version=1")).body
    await client.post("ProcessPayment", order_id="past", payment_id="p", amount="7.00")
    paid = (await client.get("/orders/past?min_version=2")).body
    await client.post("CancelOrder", order_id="past", reason="no")
    await client.get("/orders/past/history?after=2")
    for worker in (0, 1):
        assert (await client.get("/orders/past?version=1", worker)).body == first
        then = await client.get("/orders/past?version=2", worker)
        assert (then.body, then.headers["ETag"]) == (paid, '"2"')
        at = quote(paid["paid_at"])
        assert (await client.get(f"/orders/past?as_of={at}", worker)).body == paid
        assert (await client.get("/orders/past?version=9", worker)).status == 404
        assert (await client.get("/orders/past?as_of=2020-01-01T00:00:00Z", worker)).status == 404
    assert (await client.get("/orders/past?as_of=yesterday")).status == 422
    assert (await client.get("/orders/past?as_of=2020-01-01T00:00:00")).status == 422
    assert (await client.get("/orders/past?version=1&min_version=1")).status == 422


async def test_unchanged_row_is_not_sent_again(client: Client) -> None:
    row = await client.get(f"/orders/{ORDERS[0]}")
    for worker in (0, 1):
        again = await client.get(f"/orders/{ORDERS[0]}", worker, If_None_Match=row.headers["ETag"])
        assert (again.status, again.body) == (304, "")
    assert (await client.get("/orders/nobody")).status == 404
    assert (await client.get("/orders/nobody/history")).status == 404


async def test_probes_and_metrics(client: Client) -> None:
    ready = await client.get("/readyz")
    assert (ready.status, ready.body["ready"], ready.body["role"]) == (200, True, "all")
    assert [bucket["state"] for bucket in ready.body["buckets"].values()] == ["running"]
    assert (await client.get("/healthz")).body["healthy"] is True
    metrics = (await client.get("/metrics")).body
    assert 'events_processed_total{event_type="order.created.v1",status="processed"}' in metrics
    assert 'event_processing_seconds_bucket{event_type="order.create.v1",le="0.1"}' in metrics
    assert 'events_lag{consumer_group="views.eventfleet-all"}' in metrics
    assert 'eventfleet_pipeline_state{bucket="0",state="running"} 1.0' in metrics or 'bucket="1"' in metrics


async def test_fausts_open_tables_are_off(client: Client) -> None:
    for path in ("/table", "/table/", "/router", "/stats", "/graph"):
        assert (await client.get(path)).status == 404, path


async def test_owner_that_is_gone_is_said_so(client: Client) -> None:
    """Last, for it kills a worker. Until the group notices, nobody decides for its keys: 503, and when to try again.

    Their rows are answered by the standby, which says that they are a moment old.
    """
    await kill(client.fleet.worker("two"))
    asked = [await client.post("CancelOrder", order_id=order_id, reason="no") for order_id in ORDERS]
    gone = [order_id for order_id, answer in zip(ORDERS, asked, strict=True) if answer.status == 503]
    assert gone, "the other worker had no key"
    for answer in asked:
        assert answer.status in (200, 409, 503)
        assert (answer.status == 503) == ("Retry-After" in answer.headers)
    for order_id in gone:
        row = await client.get(f"/orders/{order_id}")
        assert (row.status, row.headers["Eventfleet-Stale"]) == (200, "standby")
    await client.fleet.ready(client.fleet.worker("one"))
    rows = [await client.get(f"/orders/{order_id}") for order_id in ORDERS]
    assert [(row.status, "Eventfleet-Stale" in row.headers) for row in rows] == [(200, False)] * len(ORDERS)
