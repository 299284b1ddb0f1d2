"""The stock of one product."""

from __future__ import annotations

from hypothesis import given as forall
from hypothesis import strategies as st

from app.domain.inventory import (
    INVENTORY,
    InventoryCommand,
    ProductStocked,
    ReleaseStock,
    ReserveStock,
    Stock,
    StockProduct,
    StockRejected,
    StockReleased,
    StockReserved,
)
from app.kernel import Rejected
from tests.unit.given import given

STOCKED = ProductStocked("p", 5, 5)
RESERVED = StockReserved("p", "o1", 3, 2)


def test_stocking_adds_up() -> None:
    given(INVENTORY, STOCKED).when(StockProduct("p", 2)).then(ProductStocked("p", 2, 7))


def test_a_reservation_takes_from_what_is_available() -> None:
    given(INVENTORY, STOCKED).when(ReserveStock("p", "o1", 3)).then(RESERVED)


def test_too_few_pieces_are_a_fact_and_change_nothing() -> None:
    given(INVENTORY, STOCKED, RESERVED).when(ReserveStock("p", "o2", 3)).then(StockRejected("p", "o2", 3, 2))
    given(INVENTORY).when(ReserveStock("p", "o2", 1)).then(StockRejected("p", "o2", 1, 0))


def test_an_order_reserves_once() -> None:
    given(INVENTORY, STOCKED, RESERVED).when(ReserveStock("p", "o1", 3)).then()


def test_releasing_puts_back_what_the_order_had() -> None:
    given(INVENTORY, STOCKED, RESERVED).when(ReleaseStock("p", "o1", "cancelled")).then(
        StockReleased("p", "o1", 3, 5, "cancelled")
    )


def test_releasing_what_is_not_reserved_changes_nothing() -> None:
    given(INVENTORY, STOCKED).when(ReleaseStock("p", "o1", "cancelled")).then()


commands: st.SearchStrategy[InventoryCommand] = st.one_of(
    st.builds(StockProduct, st.just("p"), st.integers(1, 20)),
    st.builds(ReserveStock, st.just("p"), st.sampled_from(["o1", "o2", "o3"]), st.integers(1, 20)),
    st.builds(ReleaseStock, st.just("p"), st.sampled_from(["o1", "o2", "o3"]), st.just("r")),
)


@forall(st.lists(commands))
def test_pieces_are_conserved_and_never_below_zero(sent: list[InventoryCommand]) -> None:
    stock, stocked = Stock(), 0
    for command in sent:
        decided = INVENTORY.decide(stock, command)
        assert not isinstance(decided, Rejected)
        stock = INVENTORY.fold(decided, stock)
        stocked += sum(event.quantity for event in decided if isinstance(event, ProductStocked))
        assert stock.available >= 0
        assert stock.available + sum(stock.reserved.values()) == stocked
        assert all(getattr(event, "available", stock.available) == stock.available for event in decided)
