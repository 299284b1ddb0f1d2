"""Orders of the last minute: how many and worth how much, of each customer and over all, at any moment."""

from __future__ import annotations

from datetime import timedelta

from app.domain.order import ORDER, OrderCreated
from app.kernel import Sliding, Window, total_of

ORDERS_LAST_MINUTE = Window(
    name="orders-last-minute",
    category=ORDER.category,
    events=(OrderCreated,),
    kind=Sliding(timedelta(minutes=1), resolution=timedelta(seconds=1)),
    grace=timedelta(seconds=10),
    fold=total_of(lambda order: order.total),
    key=lambda order: order.customer_id,
)
