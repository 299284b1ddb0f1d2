"""What the workload W1 runs: the fleet's application with one read model, as a worker of the role `reads`.

`faust -A bench.one_read_model worker`. What else the catalogue's reads come to would be measured with it otherwise.
"""

from __future__ import annotations

from dataclasses import replace

from app.catalogue import CATALOGUE
from app.main import make_app
from app.projections.orders import ORDERS
from app.runtime.settings import load_settings

app = make_app(load_settings(), replace(CATALOGUE, projections=(ORDERS,), windows=(), filters=()))
