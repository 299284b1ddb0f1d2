"""An older release of the fleet, whose customers' read model counts what was ordered as spent. Mended since."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from app.catalogue import CATALOGUE
from app.domain.order import OrderCreated
from app.kernel import Envelope
from app.main import make_app
from app.projections.customers import CUSTOMERS, CustomerRow, project
from app.runtime.settings import load_settings


def project_wrongly(row: CustomerRow | None, envelope: Envelope[Any]) -> CustomerRow:
    """Every order is paid, this release believed."""
    after, event = project(row, envelope), envelope.message
    spent = (row.spent if row else 0) + event.total if isinstance(event, OrderCreated) else after.spent
    return msgspec.structs.replace(after, spent=spent)


WRONG = tuple(replace(p, project=project_wrongly) if p is CUSTOMERS else p for p in CATALOGUE.projections)

app = make_app(load_settings(), replace(CATALOGUE, projections=WRONG))
