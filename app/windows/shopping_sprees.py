"""Shopping sprees: a customer's orders with less than five minutes between one and the next."""

from __future__ import annotations

from datetime import timedelta

from app.domain.order import ORDER, OrderCreated
from app.kernel import Session, Window, total_of

SHOPPING_SPREES = Window(
    name="shopping-sprees",
    category=ORDER.category,
    events=(OrderCreated,),
    kind=Session(gap=timedelta(minutes=5)),
    grace=timedelta(seconds=30),
    fold=total_of(lambda order: order.total),
    key=lambda order: order.customer_id,
)
