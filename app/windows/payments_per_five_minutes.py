"""Payments of five minutes, anew every minute: a trend."""

from __future__ import annotations

from datetime import timedelta

from app.domain.order import ORDER, PaymentProcessed
from app.kernel import Hopping, Window, total_of

PAYMENTS_PER_FIVE_MINUTES = Window(
    name="payments-per-five-minutes",
    category=ORDER.category,
    events=(PaymentProcessed,),
    kind=Hopping(timedelta(minutes=5), hop=timedelta(minutes=1)),
    grace=timedelta(seconds=10),
    fold=total_of(lambda payment: payment.amount),
)
