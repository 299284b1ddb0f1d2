"""The order's rules, one sentence each."""

from __future__ import annotations

from decimal import Decimal

import pytest

from app.domain.order import (
    ITEMS_PER_ORDER_MAX,
    ORDER,
    QUANTITY_MAX,
    CancelOrder,
    ConfirmDelivery,
    ConfirmReservation,
    CreateOrder,
    InventoryReserved,
    Item,
    OrderCancelled,
    OrderCreated,
    OrderShipped,
    PaymentFailed,
    PaymentProcessed,
    PaymentRequested,
    ProcessPayment,
    RefundRequested,
    RequestPayment,
    RequestRefund,
    ShipmentDelivered,
    ShipOrder,
)
from app.kernel import Rejected
from tests.unit.given import given

ITEMS = (Item("p1", 2, Decimal("10.10")), Item("p2", 1, Decimal("0.05")))
TOTAL = Decimal("20.25")
CREATE = CreateOrder("o1", "c1", "Ada", "ada@example.com", ITEMS)
CREATED = OrderCreated("o1", "c1", "Ada", "ada@example.com", ITEMS, TOTAL)
PAID = PaymentProcessed("o1", "c1", "pay1", TOTAL)
SHIPPED = OrderShipped("o1", "c1", "T1")
DELIVERED = ShipmentDelivered("o1", "c1", "T1")
CANCELLED = OrderCancelled("o1", "c1", "changed my mind", Decimal(0))


def test_a_created_order_carries_its_customer_and_the_exact_total() -> None:
    given(ORDER).when(CREATE).then(CREATED)


def test_an_order_is_created_once() -> None:
    given(ORDER, CREATED).when(CREATE).then_rejected("order_already_created", "Order already created")


def test_an_order_needs_items() -> None:
    given(ORDER).when(CreateOrder("o1", "c1", "Ada", "a@b", ())).then_rejected("order_empty")


def test_an_order_has_a_longest_length() -> None:
    items = ITEMS[:1] * (ITEMS_PER_ORDER_MAX + 1)
    given(ORDER).when(CreateOrder("o1", "c1", "Ada", "a@b", items)).then_rejected("order_too_long")


@pytest.mark.parametrize("quantity", [0, -1, QUANTITY_MAX + 1, 10**30])
def test_an_item_is_counted_sensibly(quantity: int) -> None:
    items = (Item("p1", quantity, Decimal(1)),)
    given(ORDER).when(CreateOrder("o1", "c1", "Ada", "a@b", items)).then_rejected("order_item_invalid")


@pytest.mark.parametrize(
    "price",
    [
        "-0.01",
        "-0",
        "NaN",
        "sNaN",
        "Infinity",
        "-Infinity",
        "1E400",
        "1E999999",
        "1E1",
        "0E-999999",
        "0.00001",
        "10000000000",
    ],
)
def test_an_item_is_priced_sensibly(price: str) -> None:
    items = (Item("p1", 1, Decimal(price)),)
    given(ORDER).when(CreateOrder("o1", "c1", "Ada", "a@b", items)).then_rejected("order_item_invalid")


@pytest.mark.parametrize("product_id", ["", "x" * 129, "a\nb", "a\x00"])
def test_an_item_is_a_product_that_there_may_be(product_id: str) -> None:
    items = (Item(product_id, 1, Decimal(1)),)
    given(ORDER).when(CreateOrder("o1", "c1", "Ada", "a@b", items)).then_rejected("order_item_invalid")


def test_the_largest_total_is_exact() -> None:
    items = tuple(Item(f"p{n}", QUANTITY_MAX, Decimal("9999999999.9999")) for n in range(ITEMS_PER_ORDER_MAX))
    created = given(ORDER).when(CreateOrder("o1", "c1", "Ada", "a@b", items)).decision
    assert not isinstance(created, Rejected)
    assert isinstance(created[0], OrderCreated)
    assert created[0].total == 99999999999999 * QUANTITY_MAX * ITEMS_PER_ORDER_MAX // 10**4


@pytest.mark.parametrize("amount", ["NaN", "sNaN", "Infinity", "-20.25", "20.250000001"])
def test_a_payment_is_an_amount(amount: str) -> None:
    given(ORDER, CREATED).when(ProcessPayment("o1", "pay1", Decimal(amount))).then_rejected("payment_amount_mismatch")


def test_what_is_booked_is_the_total_however_it_was_written() -> None:
    written = Decimal(f"{TOTAL}{'0' * 1000}")
    given(ORDER, CREATED).when(ProcessPayment("o1", "pay1", written)).then(PAID)
    booked = given(ORDER, CREATED).when(ProcessPayment("o1", "pay1", written)).decision
    assert not isinstance(booked, Rejected)
    assert isinstance(booked[0], PaymentProcessed)
    assert str(booked[0].amount) == str(TOTAL)


def test_a_created_order_is_paid_in_full() -> None:
    given(ORDER, CREATED).when(ProcessPayment("o1", "pay1", TOTAL)).then(PAID)


def test_a_payment_must_match_the_total() -> None:
    refused = given(ORDER, CREATED).when(ProcessPayment("o1", "pay1", Decimal("20.24")))
    refused.then_rejected("payment_amount_mismatch", "Payment amount must match order total")


def test_only_a_created_order_can_be_paid() -> None:
    refused = given(ORDER, CREATED, PAID).when(ProcessPayment("o1", "pay2", TOTAL))
    refused.then_rejected("order_not_created", "Can only pay for created order")


def test_a_declined_payment_is_a_fact_and_may_be_tried_again() -> None:
    failed = PaymentFailed("o1", "c1", "pay1", TOTAL, "card expired")
    given(ORDER, CREATED).when(ProcessPayment("o1", "pay1", TOTAL, "card expired")).then(failed)
    given(ORDER, CREATED, failed).when(ProcessPayment("o1", "pay1", TOTAL)).then(PAID)


def test_only_a_paid_order_is_shipped() -> None:
    given(ORDER, CREATED).when(ShipOrder("o1", "T1")).then_rejected("order_not_paid", "Can only ship paid order")
    given(ORDER, CREATED, PAID).when(ShipOrder("o1", "T1")).then(SHIPPED)


def test_only_a_shipped_order_is_delivered() -> None:
    given(ORDER, CREATED, PAID).when(ConfirmDelivery("o1")).then_rejected("order_not_shipped")
    given(ORDER, CREATED, PAID, SHIPPED).when(ConfirmDelivery("o1")).then(DELIVERED)


def test_an_order_is_cancelled_until_it_ships_and_tells_what_is_owed() -> None:
    cancel = CancelOrder("o1", "changed my mind")
    given(ORDER, CREATED).when(cancel).then(CANCELLED)
    given(ORDER, CREATED, PAID).when(cancel).then(OrderCancelled("o1", "c1", "changed my mind", TOTAL))
    for history in ((CREATED, PAID, SHIPPED), (CREATED, PAID, SHIPPED, DELIVERED), (CREATED, CANCELLED)):
        given(ORDER, *history).when(cancel).then_rejected("order_not_cancellable")


def test_nothing_but_creating_can_be_done_with_an_order_that_does_not_exist() -> None:
    for command in (
        ProcessPayment("o1", "p", TOTAL),
        ShipOrder("o1", "T"),
        ConfirmDelivery("o1"),
        CancelOrder("o1", ""),
    ):
        given(ORDER).when(command).then_rejected("order_not_found")


def test_payment_is_requested_once_every_item_is_reserved() -> None:
    reserved = InventoryReserved("o1", "c1")
    given(ORDER, CREATED).when(RequestPayment("o1")).then_rejected("order_not_reserved")
    given(ORDER, CREATED).when(ConfirmReservation("o1")).then(reserved)
    given(ORDER, CREATED, reserved).when(ConfirmReservation("o1")).then()
    requested = PaymentRequested("o1", "c1", CREATED.total)
    given(ORDER, CREATED, reserved).when(RequestPayment("o1")).then(requested)
    given(ORDER, CREATED, reserved, requested).when(RequestPayment("o1")).then()


def test_what_was_paid_for_a_cancelled_order_is_refunded_once() -> None:
    cancelled = OrderCancelled("o1", "c1", "no", CREATED.total)
    refund = RefundRequested("o1", "c1", CREATED.total)
    given(ORDER, CREATED).when(RequestRefund("o1")).then_rejected("nothing_to_refund")
    given(ORDER, CREATED, cancelled).when(RequestRefund("o1")).then(refund)
    given(ORDER, CREATED, cancelled, refund).when(RequestRefund("o1")).then_rejected("nothing_to_refund")


def test_the_aggregate_reads_its_messages_from_the_annotations() -> None:
    assert ORDER.category == "orders"
    assert [kind.wire_name for kind in ORDER.commands] == [
        "order.create.v1",
        "order.confirm-reservation.v1",
        "order.request-payment.v1",
        "order.process-payment.v1",
        "order.ship.v1",
        "order.confirm-delivery.v1",
        "order.cancel.v1",
        "order.request-refund.v1",
    ]
    assert OrderCreated in ORDER.events
    assert len(ORDER.events) == 9
