"""What a machine is called on its own network, as Linux tells it."""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from hwc_node import lan

ROUTES = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 192.168.1.0/24 2 0 2
        |-- 192.168.1.0
           /24 link UNICAST
        |-- 192.168.1.10
           /32 host LOCAL
        |-- 192.168.1.255
           /32 link BROADCAST
     |-- 127.0.0.1
        /32 host LOCAL
Local:
     |-- 192.168.1.10
        /32 host LOCAL
     |-- 10.42.0.1
        /32 host LOCAL
"""
INTERFACES = """00000000000000000000000000000001 01 80 10 80       lo
fe8000000000000000fc00fffe000001 04 40 20 80     eth0
fd000000000000000000000000000002 04 40 00 82     eth0
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tables of a machine with Wi-Fi and a network of its own."""
    for name, text in (("IPV4_TABLE", ROUTES), ("IPV6_TABLE", INTERFACES)):
        (tmp_path / name).write_text(text)
        monkeypatch.setattr(lan, name, tmp_path / name)
    return tmp_path


def test_every_address_that_others_reach_is_told_once_and_in_order(machine: Path) -> None:
    assert lan.addresses("0.0.0.0") == (IPv4Address("10.42.0.1"), IPv4Address("192.168.1.10"))
    assert lan.addresses("::")[2:] == (IPv6Address("fd00::2"),)


def test_a_server_at_one_address_has_that_and_at_loopback_none() -> None:
    assert lan.addresses("192.168.1.10") == (IPv4Address("192.168.1.10"),)
    assert lan.addresses("127.0.0.1") == lan.addresses("::1") == lan.addresses("localhost") == ()


def test_tables_that_are_cut_or_odd_tell_what_they_can(machine: Path) -> None:
    (machine / "IPV4_TABLE").write_text("|-- 999.1.1.1\n /32 host LOCAL\n" + ROUTES[:300])
    (machine / "IPV6_TABLE").write_text("\nxyz\n" + INTERFACES)
    assert lan.addresses("::") == (IPv4Address("192.168.1.10"), IPv6Address("fd00::2"))


def test_without_tables_the_routes_tell(machine: Path) -> None:
    (machine / "IPV4_TABLE").unlink()
    (machine / "IPV6_TABLE").unlink()
    assert all(isinstance(one, IPv4Address) for one in lan.addresses("::"))
    assert list(lan._by_routes(["127.0.0.1", "not an address"])) == [ipaddress.ip_address("127.0.0.1")]


@pytest.mark.parametrize(
    ("hostname", "name"),
    [
        ("rampur", "rampur.local"),
        ("Rampur-PC.lan.example", "rampur-pc.local"),
        ("localhost", ""),
        ("", ""),
        ("under_score", ""),
        ("-rampur", ""),
        ("x" * 64, ""),
        ("केंद्र", ""),
    ],
)
def test_a_name_in_local_is_the_machines_own_if_dns_can_have_it(hostname: str, name: str) -> None:
    assert lan.local_name(hostname) == name
