"""Orders of very important customers."""

from __future__ import annotations

from app.domain.customer import CUSTOMER
from app.domain.order import ORDER, OrderCreated
from app.kernel import Filter, Known

VIP = Filter(
    "vip",
    ORDER,
    OrderCreated,
    lambda order, customer: customer.vip,
    knows=Known(CUSTOMER, lambda order: order.customer_id),
)
