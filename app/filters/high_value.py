"""Orders of high value."""

from __future__ import annotations

from decimal import Decimal

from app.domain.order import ORDER, OrderCreated
from app.kernel import Filter

HIGH_VALUE_ABOVE = Decimal(1000)

HIGH_VALUE = Filter("high-value", ORDER, OrderCreated, lambda order, _: order.total > HIGH_VALUE_ABOVE)
