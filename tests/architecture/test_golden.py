"""Nothing that lies in logs may become unreadable, or mean something else: see docs/schema.md."""

from __future__ import annotations

from app.catalogue import CATALOGUE
from tests.golden.keeping import OTHERS, complaints, forms_of


def test_every_message_is_kept_and_every_kept_one_is_read_as_it_was_written() -> None:
    complained = list(complaints(forms_of(CATALOGUE.aggregates, OTHERS)))
    assert not complained, "\n".join(complained)
