"""Ports that are free, taken, or none at all."""

from __future__ import annotations

import os
import socket

import pytest

from app.local.errors import LocalFleetError
from app.local.ports import HIGHEST, LOWEST, check_free, free_ports


def test_a_taken_port_is_refused_and_who_listens_is_named() -> None:
    port = free_ports(1)
    named = rf"port {port} is taken by process {os.getpid()} \(.+\): stop what"
    with socket.create_server(("127.0.0.1", port)), pytest.raises(LocalFleetError, match=named):
        check_free(port)
    check_free(port)


def test_a_port_that_is_taken_on_every_address_is_refused() -> None:
    port = free_ports(1)
    with socket.create_server(("0.0.0.0", port)), pytest.raises(LocalFleetError, match="is taken"):
        check_free(port)


@pytest.mark.parametrize("port", [-1, 0, 65_536, 70_000])
def test_what_is_no_port_is_refused(port: int) -> None:
    with pytest.raises(LocalFleetError, match=f"{port} is no port: choose one from 1"):
        check_free(port)


def test_free_ports_lie_in_a_row_below_those_of_outgoing_connections() -> None:
    first = free_ports(4)
    assert LOWEST <= first <= HIGHEST - 4
    for port in range(first, first + 4):
        check_free(port)
