"""A table: typed rows under one prefix of a shard's store."""

from __future__ import annotations

import re
from typing import Any, Generic, TypeVar

import msgspec

from app.kernel.errors import ConfigurationRefused

R = TypeVar("R")

_NAME = re.compile(r"[a-z][a-z0-9-]*")
_ENGINE = b"\x00"


class Table(Generic[R]):
    """Names a kind of rows and says how they are written: as MessagePack, decimals as text.

    `prefix`, `encode` and `decode` are used for every event and therefore plain attributes: the bytes before each of
    the table's keys, from row to bytes, and from bytes to row.
    """

    __slots__ = ("decode", "encode", "name", "prefix")

    def __init__(self, name: str, row: Any) -> None:
        if not _NAME.fullmatch(name):
            raise ConfigurationRefused(f"{name!r} is no table name: use lower-case letters, digits and hyphens")
        self.name = name
        self.prefix = name.encode() + b"\x00"
        self.encode = msgspec.msgpack.Encoder().encode
        self.decode = msgspec.msgpack.Decoder(row).decode

    @classmethod
    def reserved(cls, prefix: bytes, row: Any) -> Table[R]:
        """The engine's own rows, under a prefix that no named table can have."""
        if not prefix.startswith(_ENGINE):
            raise ConfigurationRefused(f"a reserved prefix begins with a zero byte, {prefix!r} does not")
        table: Table[R] = cls.__new__(cls)
        table.name = prefix[1:].decode().rstrip(":")
        table.prefix = prefix
        table.encode = msgspec.msgpack.Encoder().encode
        table.decode = msgspec.msgpack.Decoder(row).decode
        return table

    def __repr__(self) -> str:
        return f"Table({self.name!r})"
