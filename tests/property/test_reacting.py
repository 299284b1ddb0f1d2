"""The simple chain on the engine: two lines in the catalogue."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from app.catalogue import CATALOGUE
from app.domain.customer import CUSTOMER
from app.domain.inventory import INVENTORY, ReserveStock, StockProduct, StockRejected
from app.kernel import Envelope, when
from app.kernel.errors import ConfigurationRefused
from app.runtime.codec import Codec
from app.runtime.ports import TopicPartition
from tests.property.lives import PARTITIONS, SETTINGS, TOPICS, Town

REPLENISH = when(StockRejected).then(
    "replenish", lambda refused: [StockProduct(refused.product_id, 2 * refused.quantity)]
)
REPLENISHING = replace(CATALOGUE, reactions=(REPLENISH,))
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def inventory_events(town: Town) -> list[tuple[str, int, str]]:
    """(type, available, causation) of each event of the stock."""
    partitions = [TopicPartition(TOPICS.events("inventory"), number) for number in range(PARTITIONS)]
    found = [json.loads(record.value or b"") for p in partitions for record in town.cluster.records(p)]
    return [(event["type"], event["data"]["available"], event["causationid"]) for event in found]


async def test_when_stock_is_refused_then_it_is_replenished_once() -> None:
    codec = Codec(INVENTORY.commands)
    for dies_at in (None, *range(2, 60, 3)):
        town = Town(REPLENISHING.agents(SETTINGS), REPLENISHING.topics(SETTINGS))
        reserve = ReserveStock("p", "o1", 3)
        town.send(TOPICS.commands("inventory"), [("p", codec.encode(Envelope("c1", "p", NOW, reserve), "/t"))])
        await town.live(dies_at=dies_at, disk_lost=dies_at is not None)
        await town.live()
        rejected, stocked = inventory_events(town)
        assert rejected == ("inventory.rejected.v1", 0, "c1")
        assert stocked[:2] == ("inventory.stocked.v1", 6)
        await town.live(disk_lost=True)
        assert len(inventory_events(town)) == 2


def test_an_event_that_nobody_decides_is_refused() -> None:
    only_customers = replace(
        CATALOGUE, aggregates=(CUSTOMER,), projections=(), chains=(), filters=(), windows=(), reactions=(REPLENISH,)
    )
    with pytest.raises(ConfigurationRefused, match="replenish waits for StockRejected"):
        only_customers.topics(SETTINGS)
