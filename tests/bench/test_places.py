"""Where programs are put: a port is theirs, whoever else looks for one before they start."""

from __future__ import annotations

import socket

import pytest

from bench.places import free_port


def test_a_free_port_is_given_to_nobody_else_and_the_program_that_takes_it_is_reached() -> None:
    port = free_port()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))
    for _ in range(2):  # it may be stopped and started again
        with socket.create_server(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port)):
            pass
