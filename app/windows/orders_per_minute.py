"""Orders of each minute of the clock, over all."""

from __future__ import annotations

from datetime import timedelta

from app.domain.order import ORDER, OrderCreated
from app.kernel import Tumbling, Window, total_of

ORDERS_PER_MINUTE = Window(
    name="orders-per-minute",
    category=ORDER.category,
    events=(OrderCreated,),
    kind=Tumbling(timedelta(minutes=1)),
    grace=timedelta(seconds=10),
    fold=total_of(lambda order: order.total),
)
