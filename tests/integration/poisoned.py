"""A release of the fleet whose order projection has a bug, while FLEET_POISONED is set; without, the release after."""

from __future__ import annotations

import os
from dataclasses import replace

from app.catalogue import CATALOGUE
from app.domain.order import OrderCreated, OrderEvent
from app.kernel import Envelope
from app.main import make_app
from app.projections.orders import ORDERS, OrderRow, project
from app.runtime.settings import load_settings

POISON = "Poison"
POISONED = bool(os.environ.get("FLEET_POISONED"))


def stumbling(row: OrderRow | None, envelope: Envelope[OrderEvent]) -> OrderRow:
    """Cannot do it for customers of one name."""
    if POISONED and isinstance(envelope.message, OrderCreated) and envelope.message.customer_name == POISON:
        raise ZeroDivisionError(f"cannot project an order of {POISON}")
    return project(row, envelope)


others = tuple(projection for projection in CATALOGUE.projections if projection is not ORDERS)
app = make_app(load_settings(), replace(CATALOGUE, projections=(replace(ORDERS, project=stumbling), *others)))
