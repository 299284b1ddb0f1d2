"""The golden files can complain: each change that would break old records is made to types here, and refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, ClassVar

import msgspec
import pytest

from app.kernel import Event, Message, Upcaster
from app.runtime.codec import Codec
from tests.golden.__main__ import write
from tests.golden.drafts import draft
from tests.golden.keeping import Forms, complaints, forms_with

NAME = "parcel.sent.v1"


class Size(StrEnum):
    SMALL = "small"
    LARGE = "large"


class Piece(msgspec.Struct, frozen=True):
    product_id: str
    price: Decimal


class ParcelSent(Event, frozen=True):
    wire_name: ClassVar[str] = NAME
    parcel_id: Annotated[str, msgspec.Meta(max_length=128)]
    weight: int
    pieces: tuple[Piece, ...]
    size: Size
    note: str | None = None


def forms(*kinds: type[Message], upcasters: Sequence[Upcaster] = ()) -> Forms:
    return forms_with(Codec(kinds, upcasters), kinds)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """The golden files of `ParcelSent` as it is."""
    write(forms(ParcelSent), tmp_path)
    assert list(complaints(forms(ParcelSent), tmp_path)) == []
    return tmp_path


class Removed(Event, frozen=True):
    wire_name: ClassVar[str] = NAME
    parcel_id: Annotated[str, msgspec.Meta(max_length=128)]
    pieces: tuple[Piece, ...]
    size: Size
    note: str | None = None


class Renamed(Event, frozen=True):
    wire_name: ClassVar[str] = NAME
    parcel_id: Annotated[str, msgspec.Meta(max_length=128)]
    grams: int
    pieces: tuple[Piece, ...]
    size: Size
    note: str | None = None


class RenamedOptional(Event, frozen=True):
    wire_name: ClassVar[str] = NAME
    parcel_id: Annotated[str, msgspec.Meta(max_length=128)]
    weight: int
    pieces: tuple[Piece, ...]
    size: Size
    remark: str | None = None


class OtherType(Event, frozen=True):
    wire_name: ClassVar[str] = NAME
    parcel_id: Annotated[str, msgspec.Meta(max_length=128)]
    weight: Decimal
    pieces: tuple[Piece, ...]
    size: Size
    note: str | None = None


class CheapPiece(msgspec.Struct, frozen=True):
    product_id: str
    price: str


class OtherTypeWithin(Event, frozen=True):
    """As JSON both are texts: only the kept shape can tell."""

    wire_name: ClassVar[str] = NAME
    parcel_id: Annotated[str, msgspec.Meta(max_length=128)]
    weight: int
    pieces: tuple[CheapPiece, ...]
    size: Size
    note: str | None = None


class NewRequired(Event, frozen=True):
    wire_name: ClassVar[str] = NAME
    parcel_id: Annotated[str, msgspec.Meta(max_length=128)]
    weight: int
    pieces: tuple[Piece, ...]
    size: Size
    carrier: str
    note: str | None = None


class NowRequired(Event, frozen=True):
    wire_name: ClassVar[str] = NAME
    parcel_id: Annotated[str, msgspec.Meta(max_length=128)]
    weight: int
    pieces: tuple[Piece, ...]
    size: Size
    note: str | None


class Narrower(Event, frozen=True):
    wire_name: ClassVar[str] = NAME
    parcel_id: Annotated[str, msgspec.Meta(max_length=64)]
    weight: int
    pieces: tuple[Piece, ...]
    size: Size
    note: str | None = None


class NewBound(Event, frozen=True):
    wire_name: ClassVar[str] = NAME
    parcel_id: Annotated[str, msgspec.Meta(max_length=128)]
    weight: Annotated[int, msgspec.Meta(ge=1)]
    pieces: tuple[Piece, ...]
    size: Size
    note: str | None = None


class OneSize(StrEnum):
    SMALL = "small"


class FewerChoices(Event, frozen=True):
    wire_name: ClassVar[str] = NAME
    parcel_id: Annotated[str, msgspec.Meta(max_length=128)]
    weight: int
    pieces: tuple[Piece, ...]
    size: OneSize
    note: str | None = None


class NoLongerNull(Event, frozen=True):
    wire_name: ClassVar[str] = NAME
    parcel_id: Annotated[str, msgspec.Meta(max_length=128)]
    weight: int
    pieces: tuple[Piece, ...]
    size: Size
    note: str = ""


@pytest.mark.parametrize(
    ("mutant", "complaint"),
    [
        (Removed, "weight is gone or has another name"),
        (Renamed, "weight is gone or has another name"),
        (Renamed, "grams is new and required"),
        (RenamedOptional, "note is gone or has another name"),
        (OtherType, "weight was int, now it is decimal"),
        (OtherTypeWithin, "pieces[].price was decimal, now it is str"),
        (NewRequired, "carrier is new and required: give it a default"),
        (NowRequired, "note was optional, now it is required"),
        (Narrower, "parcel_id: max_length was 128, now it is 64"),
        (NewBound, "weight: ge=1 is a new bound"),
        (FewerChoices, "size was 'large', now it is 'small'"),
        (NoLongerNull, "note was null, now it is str"),
    ],
)
def test_a_change_that_breaks_old_records_is_refused(kept: Path, mutant: type[Message], complaint: str) -> None:
    found = list(complaints(forms(mutant), kept))
    assert any(f"{NAME}: {complaint}" in one for one in found), found
    assert write(forms(mutant), kept) == [], "`make golden` must not hide it"


class SentAway(Event, frozen=True):
    wire_name: ClassVar[str] = "parcel.sent-away.v1"
    parcel_id: str


def test_another_wire_name_leaves_the_old_records_unread(kept: Path) -> None:
    found = list(complaints(forms(SentAway), kept))
    assert any(one.startswith(f"{NAME} is read by nobody") for one in found), found
    assert any(one.startswith("parcel.sent-away.v1 has no golden file") for one in found), found


class Wider(Event, frozen=True):
    wire_name: ClassVar[str] = NAME
    parcel_id: Annotated[str, msgspec.Meta(max_length=256)]
    weight: int
    pieces: tuple[Piece, ...]
    size: Size
    note: str | None = None
    carrier: str = "post"
    extras: tuple[Piece, ...] = ()


def test_a_change_that_old_records_bear_is_kept_as_well(kept: Path) -> None:
    assert list(complaints(forms(Wider), kept)) == [
        f"{NAME}: has changed in a way that old records bear: run `make golden`, and commit what it has written"
    ]
    assert write(forms(Wider), kept) == [f"shapes/{NAME}.json", f"{NAME}.json"]
    assert list(complaints(forms(Wider), kept)) == []
    assert any("carrier is gone" in one for one in complaints(forms(ParcelSent), kept)), "from now on it must stay"


class ParcelSentV2(Event, frozen=True):
    wire_name: ClassVar[str] = "parcel.sent.v2"
    parcel_id: str
    grams: int


class ParcelSentV3(Event, frozen=True):
    wire_name: ClassVar[str] = "parcel.sent.v3"
    parcel_id: str
    milligrams: int


V1 = Upcaster(NAME, "parcel.sent.v2", lambda data: {"parcel_id": data["parcel_id"], "grams": data["weight"]})
V2 = Upcaster(
    "parcel.sent.v2",
    "parcel.sent.v3",
    lambda data: {"parcel_id": data["parcel_id"], "milligrams": data["grams"] * 1000},
)


def test_a_new_version_needs_a_golden_file_and_a_way_from_the_old_ones(kept: Path) -> None:
    found = list(complaints(forms(ParcelSentV2), kept))
    assert any(one.startswith("parcel.sent.v2 has no golden file") for one in found), found
    assert any(one.startswith(f"{NAME} is read by nobody") for one in found), found
    grown = forms(ParcelSentV2, upcasters=[V1])
    assert any(one.startswith(f"{NAME}: what is it read as?") for one in complaints(grown, kept))
    write(grown, kept)
    assert list(complaints(grown, kept)) == []


def test_upcasters_chain_and_each_old_version_is_looked_at_for_ever(kept: Path) -> None:
    write(forms(ParcelSentV2, upcasters=[V1]), kept)
    grown = forms(ParcelSentV3, upcasters=[V1, V2])
    write(grown, kept)
    assert list(complaints(grown, kept)) == []
    read_as = json.loads((kept / "upcast" / f"{NAME}.json").read_bytes())
    assert (read_as["type"], read_as["data"]["milligrams"]) == ("parcel.sent.v3", 2000)
    forgetful = forms(ParcelSentV3, upcasters=[V2])
    assert [one for one in complaints(forgetful, kept) if one.startswith(f"{NAME} is read by nobody")]
    (kept / f"{NAME}.json").unlink()
    assert [one for one in complaints(grown, kept) if f"has no {NAME}: what lies in logs stays" in one]


def test_an_upcaster_that_says_something_else_is_noticed(kept: Path) -> None:
    write(forms(ParcelSentV2, upcasters=[V1]), kept)
    wrong = Upcaster(NAME, "parcel.sent.v2", lambda data: {"parcel_id": data["parcel_id"], "grams": 0})
    assert list(complaints(forms(ParcelSentV2, upcasters=[wrong]), kept)) == [
        f"{NAME}: data.grams was 2, and is read as 0"
    ]


def test_a_record_that_is_read_as_something_else_is_noticed(kept: Path) -> None:
    file = kept / f"{NAME}.json"
    record = json.loads(draft(NAME, ParcelSent))
    record["data"]["colour"] = "red"
    file.write_text(json.dumps(record))
    assert list(complaints(forms(ParcelSent), kept)) == [f"{NAME}: data.colour is lost"]
    del record["data"]["colour"], record["data"]["note"]
    file.write_text(json.dumps(record))
    assert list(complaints(forms(ParcelSent), kept)) == [f"{NAME}: the golden record says nothing of note"]
