"""The centre's own authority: OpenSSL takes what it vouches for, and refuses everything that it may not."""

from __future__ import annotations

import ssl
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from hwc_node import local_ca
from hwc_node.local_ca import DAY_MS, Authority, Name
from sync_protocol.errors import Malformed

NOW_MS = 1_790_000_000_000
PHONE = IPv4Address("192.168.1.10")
NAMES: list[Name] = ["localhost", "rampur.local", IPv4Address("127.0.0.1"), PHONE, IPv6Address("fd00::2")]


@pytest.fixture(scope="module")
def authority() -> Authority:
    return local_ca.make("HWC000001 Rampur")


def opened(authority: Authority, pem: bytes, name: str, folder: Path) -> str:
    """What a browser that trusts this authority says of a server with this file, at this name: "" if it is content."""
    file = folder / "server.pem"
    file.write_bytes(pem)
    serving, asking = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    serving.load_cert_chain(file)
    asking.load_verify_locations(cadata=authority.certificate)
    wires = [ssl.MemoryBIO() for _ in range(4)]
    browser = asking.wrap_bio(wires[0], wires[1], server_hostname=name)
    server = serving.wrap_bio(wires[2], wires[3], server_side=True)
    try:
        for _ in range(6):
            for one, out, to in ((browser, wires[1], wires[2]), (server, wires[3], wires[0])):
                with suppress(ssl.SSLWantReadError):
                    one.do_handshake()
                to.write(out.read())
    except ssl.SSLCertVerificationError as error:
        return str(error.verify_message)
    return ""


def unconstrained(monkeypatch: pytest.MonkeyPatch, authority: Authority, name: Name) -> bytes:
    """What a thief of the key would sign."""
    with monkeypatch.context() as patched:
        patched.setattr(local_ca, "may_name", lambda _name: True)
        return local_ca.issue(authority, [name], NOW_MS)


@pytest.mark.parametrize("name", ["localhost", "rampur.local", "127.0.0.1", "192.168.1.10", "fd00::2"])
def test_a_browser_that_has_the_authority_opens_every_name_of_the_server(
    authority: Authority, tmp_path: Path, name: str
) -> None:
    assert opened(authority, local_ca.issue(authority, NAMES, NOW_MS), name, tmp_path) == ""


@pytest.mark.parametrize("name", ["other.local", "192.168.1.11", "evil.example"])
def test_a_name_that_the_server_does_not_have_is_refused(authority: Authority, tmp_path: Path, name: str) -> None:
    assert "mismatch" in opened(authority, local_ca.issue(authority, NAMES, NOW_MS), name, tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "evil.example",
        "local.evil.example",
        "evillocal",
        "mylocalhost",
        IPv4Address("8.8.8.8"),
        IPv4Address("172.32.0.1"),
        IPv4Address("100.64.0.1"),
        IPv6Address("2001:db8::1"),
        IPv6Address("::ffff:8.8.8.8"),
    ],
)
def test_a_stolen_key_can_take_the_place_of_no_other_site(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: Name
) -> None:
    pem = unconstrained(monkeypatch, authority, name)
    assert opened(authority, pem, str(name), tmp_path) == "permitted subtree violation"
    assert not local_ca.may_name(name)


def test_a_stolen_server_key_can_vouch_for_nobody(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    issued = local_ca.issue(authority, NAMES, NOW_MS)
    leaf = x509.load_pem_x509_certificate(issued).public_bytes(Encoding.DER)
    key = load_pem_private_key(issued, None).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    below = local_ca.issue(Authority(leaf, key), NAMES, NOW_MS)
    chain = below + issued[issued.index(b"-----BEGIN CERTIFICATE") :]
    assert opened(authority, issued, "localhost", tmp_path) == ""
    assert opened(authority, chain, "localhost", tmp_path) != ""


def test_the_authority_itself_says_that_it_vouches_for_servers_of_private_networks_only(authority: Authority) -> None:
    said = x509.load_der_x509_certificate(authority.certificate).extensions
    basic = said.get_extension_for_class(x509.BasicConstraints)
    names = said.get_extension_for_class(x509.NameConstraints)
    usage = said.get_extension_for_class(x509.KeyUsage)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    assert (names.critical, names.value.excluded_subtrees) == (True, None)
    assert (usage.critical, usage.value.key_cert_sign, usage.value.digital_signature) == (True, True, False)
    purposes = said.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [ExtendedKeyUsageOID.SERVER_AUTH]
    for permitted in names.value.permitted_subtrees or []:
        network = permitted.value
        assert network in ("local", "localhost") or (network.is_private and not network.is_global)


def test_the_dates_are_those_that_phones_take_whatever_the_clock_says(authority: Authority, tmp_path: Path) -> None:
    root = x509.load_der_x509_certificate(authority.certificate)
    assert (root.not_valid_before_utc.year, root.not_valid_after_utc.year) == (2000, 2049)
    for clock_ms in (-(10**15), 0, NOW_MS, 4_070_908_800_000, 10**15):
        issued = local_ca.read(local_ca.issue(authority, NAMES, clock_ms))
        days = (issued.ends_ms - issued.begins_ms) / DAY_MS
        assert days == local_ca.LIFE_DAYS <= 397
        assert issued.begins_ms >= root.not_valid_before_utc.timestamp() * 1000
        assert issued.ends_ms <= root.not_valid_after_utc.timestamp() * 1000
        assert not local_ca.is_due(issued, authority, NAMES, clock_ms)  # or it would be made anew at each look
    issued = local_ca.read(local_ca.issue(authority, NAMES, NOW_MS))
    assert issued.begins_ms <= NOW_MS - 89 * DAY_MS


def test_another_is_due_for_other_names_another_authority_and_in_the_last_third(authority: Authority) -> None:
    issued = local_ca.read(local_ca.issue(authority, NAMES, NOW_MS))
    due = local_ca.is_due
    assert not due(issued, authority, NAMES, NOW_MS)
    assert not due(issued, authority, [*reversed(NAMES), IPv4Address("8.8.8.8"), "evil.example"], NOW_MS)
    assert due(issued, authority, [*NAMES, IPv4Address("192.168.1.11")], NOW_MS)
    assert due(issued, authority, NAMES[:-1], NOW_MS)
    assert due(issued, local_ca.make("HWC000001 Rampur"), NAMES, NOW_MS)
    third_ms = issued.ends_ms - local_ca.LIFE_DAYS * DAY_MS // 3
    assert not due(issued, authority, NAMES, third_ms - DAY_MS)
    assert due(issued, authority, NAMES, third_ms + DAY_MS)
    assert due(issued, authority, NAMES, issued.begins_ms - DAY_MS)


def test_more_names_than_a_certificate_has_are_left_out_and_not_made_anew_for_ever(authority: Authority) -> None:
    many: list[Name] = [IPv4Address(f"10.0.0.{number}") for number in range(1, 200)]
    issued = local_ca.read(local_ca.issue(authority, many, NOW_MS))
    assert len(issued.names) == local_ca.MAX_NAMES
    assert not local_ca.is_due(issued, authority, many, NOW_MS)


@given(st.text(max_size=300))
def test_any_name_of_a_centre_makes_an_authority(name: str) -> None:
    made = x509.load_der_x509_certificate(local_ca.make(name).certificate)
    (common,) = made.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert 0 < len(str(common.value).encode()) <= local_ca.MAX_NAME_BYTES
    assert str(common.value).isprintable()


def test_a_file_that_is_not_whole_is_refused_with_a_code(authority: Authority) -> None:
    pem, other = (local_ca.issue(authority, NAMES, NOW_MS) for _ in range(2))
    for raw in (b"", b"nothing", pem[:-40], pem[: len(pem) // 2], pem.replace(pem[:200], other[:200])):
        with pytest.raises(Malformed):
            local_ca.read(raw)
    key = pem.index(b"-----BEGIN CERTIFICATE")
    with pytest.raises(Malformed):
        local_ca.read(other[: other.index(b"-----BEGIN CERTIFICATE")] + pem[key:])


def test_a_fingerprint_is_the_sha256_of_the_file_that_phones_install(authority: Authority) -> None:
    root = x509.load_der_x509_certificate(authority.certificate)
    shown = local_ca.fingerprint(authority.certificate)
    assert [len(group) for group in shown.split(" ")] == [11] * 8
    assert bytes.fromhex(shown.replace(":", "").replace(" ", "")) == root.fingerprint(SHA256())


def test_a_key_is_in_no_text_of_the_authority(authority: Authority) -> None:
    assert "key" not in repr(authority)
