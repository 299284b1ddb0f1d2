"""What the codec refuses of a record, whatever its message."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from app.domain.order import ORDER, ConfirmDelivery
from app.kernel.errors import UndecodableMessage
from app.runtime.batch import decode_all
from app.runtime.codec import ID_CHARS_MAX, NUMBER_MAX, Codec
from app.runtime.dead_letters import Kind, Letter, instruction, read_instruction
from app.runtime.simulated.log import SimulatedRecord
from tests.property.bad_input import golden, put

CODEC = Codec.of_commands(ORDER)
RECORD = golden("order.confirm-delivery.v1")


def encoded(*path: str, value: Any = None) -> bytes:
    return json.dumps(put(RECORD, path, value) if path else RECORD).encode()


def test_a_record_as_it_should_be_is_decoded() -> None:
    assert CODEC.decode(encoded()).message == ConfirmDelivery("order-1")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("id", ""), ("id", "x" * 129), ("id", "a\nb"), ("id", "a\x00")],
        *[("version", -1), ("version", NUMBER_MAX + 1), ("version", 1.5), ("version", "1")],
        *[("correlationid", "x" * (ID_CHARS_MAX + 1)), ("causationid", "x" * (ID_CHARS_MAX + 1))],
        *[
            ("time", "0001-01-01T00:00:00+14:00"),
            ("time", "9999-12-31T23:59:59-14:00"),
            ("time", "1969-12-31T23:00:00Z"),
        ],
        *[("time", "2026-01-01T00:00:00"), ("time", 1)],
        *[
            ("subject", "order-2"),
            ("type", "order.confirm-delivery.v9"),
            ("type", "order.delivered.v1"),
            ("data", None),
        ],
    ],
)
def test_a_record_that_nobody_could_reckon_with_is_refused(field: str, value: Any) -> None:
    with pytest.raises(UndecodableMessage):
        CODEC.decode(encoded(field, value=value))


@pytest.mark.parametrize("id_", ["", "x" * 129, "a\nb", "a\n", "\x85", 7])
def test_an_id_is_one_line_of_bounded_length(id_: Any) -> None:
    with pytest.raises(UndecodableMessage):
        CODEC.decode(json.dumps({**RECORD, "subject": id_, "data": {"order_id": id_}}).encode())


def test_times_are_told_in_utc() -> None:
    told = CODEC.decode(encoded("time", value="2026-01-01T05:30:00+05:30")).time
    assert told.isoformat() == datetime(2026, 1, 1, tzinfo=UTC).isoformat()


def test_a_decoder_that_fails_holds_up_nothing() -> None:
    def decode(record: Any) -> Any:
        return 1 // record.offset

    records = [SimulatedRecord("t", 0, offset, b"k", b"v", 0, ()) for offset in (0, 1)]
    failed, decoded = decode_all(records, decode)
    assert isinstance(failed, UndecodableMessage)
    assert "ZeroDivisionError" in str(failed)
    assert decoded == 1


@pytest.mark.parametrize("at", range(11))
def test_an_instruction_whose_header_says_nothing_concerns_nobody(at: int) -> None:
    """Kafka's headers may be null."""
    letter = Letter("raised", "x", "deciding-orders", "orders.commands", 0, 7, 0, "orders.commands@7")
    headers: list[tuple[str, Any]] = list(instruction(Kind.FOLD, letter))
    headers[at] = (headers[at][0], None)
    told = read_instruction(SimulatedRecord("fleet.redrive", 0, 0, b"k", b"v", 0, tuple(headers)))
    assert told is None or told.letter != letter
