"""What this machine is called on its own network: its addresses, and its name in ``.local``.

Read from what Linux tells in ``/proc``, which a service without rights may read too; elsewhere the address that each
private network would be reached from. It asks nobody on the network, and refuses to know what the names are used for.
"""

from __future__ import annotations

import ipaddress
import platform
import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final

IPV4_TABLE: Final = Path("/proc/net/fib_trie")
IPV6_TABLE: Final = Path("/proc/net/if_inet6")
MAX_TABLE_CHARS: Final = 1024 * 1024  # a machine of a centre has some ten routes; a router of the internet is none
MAX_ADDRESSES: Final = 16  # of one machine: Wi-Fi, cable, a phone's tethering; more is a server of something else
WILDCARDS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104  # only compared with
LOCALHOST: Final = "localhost"
LOOPBACK: Final[tuple[IPv4Address | IPv6Address, ...]] = (IPv4Address("127.0.0.1"), IPv6Address("::1"))
# Where a datagram would be sent to, if one were: the last address of each private network.
PRIVATE_TARGETS: Final = ("10.255.255.254", "172.31.255.254", "192.168.255.254", "169.254.255.254")
DISCARD_PORT: Final = 9

_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_IPV4_HERE: Final = re.compile(r"\|-- (\S+)\n\s+/32 host LOCAL")

Address = IPv4Address | IPv6Address


def addresses(host: str) -> tuple[Address, ...]:
    """Where a server that listens at ``host`` is reached from other machines, in order; none at loopback.

    host: an address, a wildcard (``0.0.0.0``, ``::``) or a name, which has no address of its own here.
    """
    if host not in WILDCARDS:
        with suppress(ValueError):
            address = ipaddress.ip_address(host)
            return () if address.is_loopback else (address,)
        return ()
    found = {one for one in _everything(with_ipv6=host == "::") if not one.is_loopback and not one.is_unspecified}
    return tuple(sorted(found, key=lambda one: (one.version, one))[:MAX_ADDRESSES])


def local_name(hostname: str | None = None) -> str:
    """``HOSTNAME.local``, by which multicast DNS finds this machine; empty where its name cannot be one of DNS."""
    label = (platform.node() if hostname is None else hostname).partition(".")[0].lower()
    return f"{label}.local" if _LABEL.fullmatch(label) and label != LOCALHOST else ""


def _everything(*, with_ipv6: bool) -> Iterator[Address]:
    try:
        yield from ipv4_in(_read(IPV4_TABLE))
    except OSError:
        yield from _by_routes(PRIVATE_TARGETS)
    if with_ipv6:
        with suppress(OSError):
            yield from ipv6_in(_read(IPV6_TABLE))


def _read(path: Path) -> str:
    with path.open(encoding="ascii", errors="replace") as opened:
        return opened.read(MAX_TABLE_CHARS)


def ipv4_in(table: str) -> Iterator[IPv4Address]:
    """This machine's own, of the table of routes as ``/proc/net/fib_trie`` has it."""
    for text in _IPV4_HERE.findall(table):
        with suppress(ValueError):
            yield IPv4Address(text)


def ipv6_in(table: str) -> Iterator[IPv6Address]:
    """Those of ``/proc/net/if_inet6`` that an address of a page can name: one of a link alone (fe80::) is none."""
    for line in table.splitlines():
        with suppress(ValueError, IndexError):
            address = IPv6Address(int(line.split()[0], 16))
            if not address.is_link_local:
                yield address


def _by_routes(targets: Iterable[str]) -> Iterator[IPv4Address]:
    for target in targets:
        with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
            asked.connect((target, DISCARD_PORT))  # sends nothing: it only looks up the route
            yield IPv4Address(asked.getsockname()[0])
