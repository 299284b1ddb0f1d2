"""Each read model says what happened: given a projection, when events, then rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from app.domain.order import (
    Item,
    OrderCancelled,
    OrderCreated,
    OrderShipped,
    OrderStatus,
    PaymentFailed,
    PaymentProcessed,
    RefundRequested,
    ShipmentDelivered,
)
from app.kernel import Envelope, Keyed, Listing, Projection
from app.kernel.errors import ConfigurationRefused
from app.projections.customer_orders import CUSTOMER_ORDERS, CustomerOrderRow
from app.projections.customers import CUSTOMERS, CustomerRow
from app.projections.orders import ORDERS
from app.projections.orders_by_day import ORDERS_BY_DAY, DayRow, merge
from tables.read_models import listed_key, place_in, place_of
from tests.unit.projected import BEGIN, At, given


def created(order_id: str, total: str, customer: str = "c1", name: str = "Ada") -> OrderCreated:
    items = (Item("p", 1, Decimal(total)),)
    return OrderCreated(order_id, customer, name, "a@example.org", items, Decimal(total))


def paid(order_id: str, amount: str, customer: str = "c1") -> PaymentProcessed:
    return PaymentProcessed(order_id, customer, "pay", Decimal(amount))


def refunded(order_id: str, amount: str, customer: str = "c1") -> RefundRequested:
    return RefundRequested(order_id, customer, Decimal(amount))


# Orders by day


def test_a_day_counts_the_orders_taken_on_it_and_what_they_come_to() -> None:
    evening, next_day = datetime(2026, 3, 1, 23, 59, tzinfo=UTC), datetime(2026, 3, 2, 0, 0, tzinfo=UTC)
    given(ORDERS_BY_DAY).when(
        At(evening, created("o1", "7.00")),
        At(evening, created("o2", "0.10", customer="c2")),
        At(next_day, created("o3", "3")),
    ).then(DayRow("2026-03-01", 2, Decimal("7.10")), DayRow("2026-03-02", 1, Decimal("3")))


def test_a_day_is_one_of_utc_wherever_the_order_came_from() -> None:
    in_auckland = datetime(2026, 3, 2, 9, 0, tzinfo=timezone(timedelta(hours=13)))
    given(ORDERS_BY_DAY).when(At(in_auckland, created("o1", "1"))).then(DayRow("2026-03-01", 1, Decimal(1)))


def test_what_becomes_of_an_order_does_not_change_its_day() -> None:
    given(ORDERS_BY_DAY).when(
        created("o1", "5"), paid("o1", "5"), OrderCancelled("o1", "c1", "no", Decimal(5)), refunded("o1", "5")
    ).then(DayRow("2026-01-01", 1, Decimal(5)))


def test_parts_of_a_day_are_merged() -> None:
    assert merge(DayRow("d", 1, Decimal("0.10")), DayRow("d", 2, Decimal("0.20"))) == DayRow("d", 3, Decimal("0.30"))


# Customers


def test_a_customer_has_ordered_spent_and_ordered_last() -> None:
    given(CUSTOMERS).when(
        created("o1", "7.00"),
        created("o2", "2.50", name="Ada L."),
        paid("o1", "7.00"),
        created("x", "1", customer="c2"),
    ).then(
        CustomerRow("c1", "Ada L.", 2, Decimal("7.00"), "o2", BEGIN + timedelta(seconds=1)),
        CustomerRow("c2", "Ada", 1, Decimal(0), "x", BEGIN + timedelta(seconds=3)),
    )


def test_what_is_paid_back_is_not_spent() -> None:
    cancelled = OrderCancelled("o1", "c1", "no", Decimal("7.00"))
    failed = PaymentFailed("o1", "c1", "pay", Decimal("7.00"), "no funds")
    given(CUSTOMERS).when(created("o1", "7.00"), failed, paid("o1", "7.00"), cancelled, refunded("o1", "7.00")).then(
        CustomerRow("c1", "Ada", 1, Decimal("0.00"), "o1", BEGIN)
    )


def test_the_last_order_is_the_newest_in_whatever_order_they_come() -> None:
    early, late = At(BEGIN, created("o1", "1", name="A")), At(BEGIN + timedelta(days=1), created("o2", "1", name="B"))
    same = At(BEGIN + timedelta(days=1), created("o3", "1", name="C"))
    for order in ([early, late, same], [same, late, early], [late, same, early]):
        given(CUSTOMERS).when(*order).then(CustomerRow("c1", "C", 3, Decimal(0), "o3", BEGIN + timedelta(days=1)))


@pytest.mark.parametrize("projection", [ORDERS, CUSTOMERS, CUSTOMER_ORDERS])
def test_an_event_of_an_order_that_was_never_created_is_no_event(projection: Projection[object]) -> None:
    with pytest.raises(ValueError, match=r"came before order\.created\.v1"):
        given(projection).when(paid("o1", "1"))


# A customer's orders


def test_a_customers_orders_stand_with_their_status_newest_first() -> None:
    rows = given(CUSTOMER_ORDERS).when(
        created("o1", "1"),
        created("o2", "2"),
        created("o3", "3"),
        created("x", "9", customer="c2"),
        paid("o1", "1"),
        OrderShipped("o1", "c1", "t"),
        ShipmentDelivered("o1", "c1", "t"),
        OrderCancelled("o2", "c1", "no", Decimal(0)),
    )
    rows.then_listed("c1", "o3", "o2", "o1")
    rows.then(
        CustomerOrderRow("o1", OrderStatus.DELIVERED, Decimal(1), BEGIN),
        CustomerOrderRow("o2", OrderStatus.CANCELLED, Decimal(2), BEGIN + timedelta(seconds=1)),
        CustomerOrderRow("o3", OrderStatus.CREATED, Decimal(3), BEGIN + timedelta(seconds=2)),
        CustomerOrderRow("x", OrderStatus.CREATED, Decimal(9), BEGIN + timedelta(seconds=3)),
    )


def test_keys_of_a_list_sort_by_time_and_lie_apart_from_other_lists() -> None:
    times = [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(1969, 12, 31, tzinfo=UTC),
        BEGIN,
        BEGIN + timedelta(microseconds=1),
    ]
    keys = [listed_key("c", place_of(time), "o") for time in times]
    assert keys == sorted(keys)
    assert listed_key("c", 5, "a") < listed_key("c", 5, "b")
    assert place_in(listed_key("c\x00", -7, "ö\x00"), "c\x00") == (-7, "ö\x00")
    assert not listed_key("c\x00", 0, "").startswith(listed_key("c", 0, "")[:3])


# The shape


def test_by_what_rows_are_kept_follows_from_what_is_given() -> None:
    assert [p.keyed for p in (ORDERS, CUSTOMERS, CUSTOMER_ORDERS, ORDERS_BY_DAY)] == [
        Keyed.BY_STREAM,
        Keyed.BY_KEY,
        Keyed.BY_KEY,
        Keyed.BY_PARTIAL,
    ]


def _project(row: DayRow | None, envelope: Envelope[OrderCreated]) -> DayRow | None:
    return row


LISTING: Listing[DayRow] = Listing(lambda envelope: envelope.stream_id, lambda row: BEGIN, "/days/{id}/orders")


def test_shapes_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ConfigurationRefused, match="give it one"):
        Projection("x", "orders", DayRow, _project, merge=merge)
    with pytest.raises(ConfigurationRefused, match="not merged"):
        Projection("x", "orders", DayRow, _project, key=lambda e: "k", merge=merge, listing=LISTING)
    without_key = Listing(LISTING.item, LISTING.at, "/days/orders")
    with pytest.raises(ConfigurationRefused, match=r"lacks \{id\}"):
        Projection("x", "orders", DayRow, _project, key=lambda e: "k", listing=without_key)
