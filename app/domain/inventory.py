"""The stock of one product: commands → decide → events → evolve, read downwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, TypeAlias, assert_never

import msgspec

from app.domain.order import OrderId
from app.kernel import Aggregate, Command, Event, Rejected
from app.kernel.words import Id, Word

ProductId = Id
Quantity = Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)]

# Commands


class StockProduct(Command, frozen=True):
    """Put pieces of a product on the shelf."""

    wire_name: ClassVar[str] = "inventory.stock.v1"
    product_id: ProductId
    quantity: Quantity


class ReserveStock(Command, frozen=True):
    """Set pieces aside for an order. The same order asking again changes nothing."""

    wire_name: ClassVar[str] = "inventory.reserve.v1"
    product_id: ProductId
    order_id: OrderId
    quantity: Quantity


class ReleaseStock(Command, frozen=True):
    """Put an order's pieces back, if it has any."""

    wire_name: ClassVar[str] = "inventory.release.v1"
    product_id: ProductId
    order_id: OrderId
    reason: Word


InventoryCommand: TypeAlias = StockProduct | ReserveStock | ReleaseStock

# Events


class ProductStocked(Event, frozen=True):
    """Pieces were put on the shelf."""

    wire_name: ClassVar[str] = "inventory.stocked.v1"
    product_id: str
    quantity: int
    available: int


class StockReserved(Event, frozen=True):
    """Pieces are set aside for an order. `available` is what is left."""

    wire_name: ClassVar[str] = "inventory.reserved.v1"
    product_id: str
    order_id: str
    quantity: int
    available: int


class StockRejected(Event, frozen=True):
    """There were not enough pieces for an order: a fact that the order's fulfilment must learn of."""

    wire_name: ClassVar[str] = "inventory.rejected.v1"
    product_id: str
    order_id: str
    quantity: int
    available: int


class StockReleased(Event, frozen=True):
    """An order's pieces are back on the shelf."""

    wire_name: ClassVar[str] = "inventory.released.v1"
    product_id: str
    order_id: str
    quantity: int
    available: int
    reason: str


InventoryEvent: TypeAlias = ProductStocked | StockReserved | StockRejected | StockReleased

# State


class Stock(msgspec.Struct, frozen=True):
    """What is on the shelf, and what is set aside for which order."""

    available: int = 0
    reserved: Mapping[str, int] = msgspec.field(default_factory=dict)


RESERVATIONS_MAX = 10_000
"""Open reservations of one product: its row must stay a record that a broker takes."""


def decide(stock: Stock, command: InventoryCommand) -> Sequence[InventoryEvent] | Rejected:
    """The events that `command` leads to, or why it is refused."""
    match command:
        case StockProduct(product_id, quantity):
            return [ProductStocked(product_id, quantity, stock.available + quantity)]
        case ReserveStock(product_id, order_id, quantity):
            if order_id in stock.reserved:
                return []
            if len(stock.reserved) >= RESERVATIONS_MAX:
                return Rejected("too_many_reservations", f"Product has {RESERVATIONS_MAX} open reservations")
            if quantity > stock.available:
                return [StockRejected(product_id, order_id, quantity, stock.available)]
            return [StockReserved(product_id, order_id, quantity, stock.available - quantity)]
        case ReleaseStock(product_id, order_id, reason):
            quantity = stock.reserved.get(order_id, 0)
            if not quantity:
                return []
            return [StockReleased(product_id, order_id, quantity, stock.available + quantity, reason)]
        case _:
            assert_never(command)


def evolve(stock: Stock, event: InventoryEvent) -> Stock:
    """The stock after `event`."""
    match event:
        case ProductStocked():
            return Stock(stock.available + event.quantity, stock.reserved)
        case StockReserved():
            return Stock(stock.available - event.quantity, {**stock.reserved, event.order_id: event.quantity})
        case StockRejected():
            return stock
        case StockReleased():
            left = {order_id: n for order_id, n in stock.reserved.items() if order_id != event.order_id}
            return Stock(stock.available + event.quantity, left)
        case _:
            assert_never(event)


INVENTORY = Aggregate(name="inventory", initial=Stock(), decide=decide, evolve=evolve, category="inventory")
