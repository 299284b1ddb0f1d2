"""`fleet schema` is true of what agents really write: every record of every topic is as its schema says."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from jsonschema import Draft202012Validator

from app.catalogue import CATALOGUE
from app.domain.customer import CUSTOMER, PromoteToVip, RegisterCustomer, VerifyUser
from app.domain.inventory import INVENTORY, StockProduct
from app.domain.order import ORDER, CancelOrder, ConfirmDelivery, CreateOrder, Item, ProcessPayment
from app.kernel import Aggregate, Command, Envelope, stream_id_of
from app.runtime.codec import Codec
from app.runtime.ports import TopicPartition
from app.schema.json_schema import record_schema
from app.schema.topics import describe, types_of
from tests.property.lives import PARTITIONS, SETTINGS, TOPICS, Town

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DESCRIBED = describe(CATALOGUE, SETTINGS)
VALIDATORS = {name: Draft202012Validator(record_schema(name, kind)) for name, kind in types_of(DESCRIBED).items()}
TOTAL = Decimal("1500.00")


def create(order_id: str, product: str, *, fulfil: bool = True) -> CreateOrder:
    items = (Item(product, 1, TOTAL),)
    return CreateOrder(order_id, "ada", "Ada", "ada@example.org", items, fulfil)


WISHES: tuple[tuple[Aggregate[Any, Any, Any], tuple[Command, ...]], ...] = (
    (CUSTOMER, (RegisterCustomer("ada", "Ada", "ada@example.org"), VerifyUser("ada"), PromoteToVip("ada", "loyal"))),
    (INVENTORY, (StockProduct("book", 5),)),
    (ORDER, (create("paid", "book"), create("short", "none"), create("called-off", "book", fulfil=False))),
    (
        ORDER,
        (
            ProcessPayment("paid", "p0", TOTAL, "no funds"),
            ProcessPayment("called-off", "p1", TOTAL),
            CancelOrder("called-off", "no"),
            ConfirmDelivery("short"),
        ),
    ),
)


async def lived() -> Town:
    """A town in which all kinds of things have happened, and whose windows have closed."""
    town = Town(CATALOGUE.agents(SETTINGS), CATALOGUE.topics(SETTINGS))
    for round_, (aggregate, wishes) in enumerate(WISHES):
        codec = Codec.of_commands(aggregate)
        for number, wish in enumerate(wishes):
            wished = Envelope(f"c{round_}-{number}", stream_id_of(wish), NOW, wish)
            town.send(TOPICS.commands(aggregate.category), [(stream_id_of(wish), codec.encode(wished, "/test"))])
        await town.live()
    for hours in (1, 2, 3):
        for topic in town.topics:
            if topic.name.endswith(".ticks"):
                tick = json.dumps({"time": (NOW + timedelta(hours=hours)).isoformat()}).encode()
                for number in range(PARTITIONS):
                    town.cluster.append(TopicPartition(topic.name, number), (None, tick))
        await town.live()
    return town


async def test_every_record_is_as_its_schema_says() -> None:
    town, seen = await lived(), Counter[str]()
    for described in DESCRIBED:
        for number in range(PARTITIONS if described.types else 0):
            for record in town.cluster.records(TopicPartition(described.topic.name, number)):
                assert record.value is not None
                event = json.loads(record.value)
                assert event["type"] in described.types, (
                    f"{described.name} does not say that {event['type']} lies in it"
                )
                VALIDATORS[event["type"]].validate(event)
                seen[described.name.rpartition(".")[2]] += 1
    assert {"commands", "events", "outcomes", "inbox", "alerts", "finals"} <= set(seen), seen
