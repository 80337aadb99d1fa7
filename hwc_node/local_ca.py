"""A certificate authority of this centre alone, for its pages on its own Wi-Fi (PROTOCOL.md §12).

    authority (self-signed, until 2049, kept in the encrypted database)
        └── server's certificate (397 days at most, its key beside it in a file of this home)

Rules. Whoever installs the authority on a phone trusts it for private addresses, ``.local`` and ``localhost``, and for
nothing else: name constraints that are critical (RFC 5280 §4.2.1.10), no authority below it, servers only. So a stolen
key can take the place of no other site. Every field is what browsers ask of an authority that a person added: ECDSA
P-256, SHA-256, alternative names, key usages, at most 825 days. Clocks lie: the authority's dates are constants, and the
server's certificate began long before it was made. Compositions of `cryptography.x509`, and nothing of our own.

It refuses to know where the keys lie, what the machine is called, and what time it is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sync_protocol.errors import Malformed

ORGANIZATION: Final = "Health Sync"
MAX_NAME_BYTES: Final = 64  # of a common name (X.520), in UTF-8
MAX_FILE_BYTES: Final = 16 * 1024  # a key and two certificates in PEM are some 3 KiB
MAX_NAMES: Final = 32  # of a server: its addresses, loopback's, two names

# The authority's dates are constants: a machine whose clock stands in 1970 makes one that a phone takes all the same.
# 2049 is the last year that certificates write with two digits, which every reader knows.
AUTHORITY_BEGINS: Final = datetime(2000, 1, 1, tzinfo=UTC)
AUTHORITY_ENDS: Final = datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)

DAY_MS: Final = 86_400_000
LIFE_DAYS: Final = 397  # Apple refuses more than 825 days below any authority; of public ones 398
BEGUN_BEFORE_DAYS: Final = 90  # a phone's clock may be behind this machine's by as much
RENEW_BEFORE_DAYS: Final = LIFE_DAYS // 3

PERMITTED_NETWORKS: Final[tuple[IPv4Network | IPv6Network, ...]] = (
    IPv4Network("10.0.0.0/8"),  # RFC 1918
    IPv4Network("172.16.0.0/12"),
    IPv4Network("192.168.0.0/16"),
    IPv4Network("169.254.0.0/16"),  # RFC 3927: a link without a server of addresses
    IPv4Network("127.0.0.0/8"),
    IPv6Network("fc00::/7"),  # RFC 4193
    IPv6Network("fe80::/10"),
    IPv6Network("::1/128"),
)
PERMITTED_DOMAINS: Final = ("local", "localhost")  # RFC 6762, RFC 6761; a domain stands for the names below it too
GROUP_BYTES: Final = 4  # of a fingerprint, so that an eye finds its place

Name = str | IPv4Address | IPv6Address
"""What a server is called: a name of DNS or an address."""


@dataclass(frozen=True, slots=True)
class Authority:
    """certificate: X.509 as DER, what a phone installs. key: its private key as PKCS #8 DER, not encrypted."""

    certificate: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Issued:
    """What a server's file says. authority: the certificate of who issued it, DER. Times in milliseconds since 1970."""

    authority: bytes
    names: frozenset[Name]
    begins_ms: int
    ends_ms: int

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.authority)


def make(name: str) -> Authority:
    """A new authority. name: of the centre, as people find it in a phone's list; cut to what fits there."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    constraints = x509.NameConstraints(
        permitted_subtrees=[
            *(x509.IPAddress(network) for network in PERMITTED_NETWORKS),
            *(x509.DNSName(domain) for domain in PERMITTED_DOMAINS),
        ],
        excluded_subtrees=None,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(AUTHORITY_BEGINS)
        .not_valid_after(AUTHORITY_ENDS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(constraints, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(
        certificate.public_bytes(Encoding.DER), key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    )


def may_name(name: Name) -> bool:
    """Whether the constraints let the authority vouch for this name."""
    if isinstance(name, str):
        return any(name == domain or name.endswith(f".{domain}") for domain in PERMITTED_DOMAINS)
    return any(name in network for network in PERMITTED_NETWORKS)


def issue(authority: Authority, names: Sequence[Name], now_ms: int) -> bytes:
    """A new key, a server's certificate for these names, and the authority's, as one PEM file that a server reads.

    names: those that the constraints permit are taken, the others are left out. now_ms: since 1970, as far as this
    machine knows. Raises Malformed for an authority that is none.
    """
    taken = _taken(names)
    issuer, signer = _read_certificate(authority.certificate), _read_key(authority.key)
    begins = _moment(now_ms) - timedelta(days=BEGUN_BEFORE_DAYS)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name("Pages of this centre"))  # two words: nobody takes it for a name of DNS
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=LIFE_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general(one) for one in taken]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )
    return (
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + certificate.public_bytes(Encoding.PEM)
        + issuer.public_bytes(Encoding.PEM)
    )


def read(pem: bytes) -> Issued:
    """What `issue` made. Raises Malformed for a file that is not whole, or whose parts are not of one piece."""
    try:
        key = load_pem_private_key(pem, None)
        server, issuer = x509.load_pem_x509_certificates(pem)
        names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        server.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound, x509.DuplicateExtension):
        raise Malformed("the file of the server's certificate cannot be read") from None
    if key.public_key() != server.public_key():
        raise Malformed("the server's certificate and its key do not belong together")
    return Issued(
        issuer.public_bytes(Encoding.DER),
        frozenset(_plain(one) for one in names),
        _ms(server.not_valid_before_utc),
        _ms(server.not_valid_after_utc),
    )


def is_due(issued: Issued, authority: Authority, names: Sequence[Name], now_ms: int) -> bool:
    """Whether another is to be issued: other names, another authority, or of its time a third or less is left."""
    if issued.authority != authority.certificate or issued.names != frozenset(_taken(names)):
        return True
    return not issued.begins_ms <= _ms(_moment(now_ms)) < issued.ends_ms - RENEW_BEFORE_DAYS * DAY_MS


def fingerprint(certificate: bytes) -> str:
    """The SHA-256 of a certificate (DER) as phones show it, in eight groups: ``0A:1B:2C:3D 4E:5F:60:71 …``."""
    digest = hashlib.sha256(certificate).digest()
    groups = (digest[at : at + GROUP_BYTES] for at in range(0, len(digest), GROUP_BYTES))
    return " ".join(group.hex(":").upper() for group in groups)


# -- parts -------------------------------------------------------------------------------------------------------------


def _name(common: str) -> x509.Name:
    """What a certificate calls its owner. Letters that steer a screen are left out: the name comes from a hub."""
    letters = re.sub(r"\s+", " ", "".join(letter for letter in common if letter.isprintable())).strip()
    shown = letters.encode("utf-8", "ignore")[:MAX_NAME_BYTES].decode("utf-8", "ignore").strip()
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION),
            x509.NameAttribute(NameOID.COMMON_NAME, shown or ORGANIZATION),
        ]
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _taken(names: Sequence[Name]) -> list[Name]:
    """Those that a certificate can have, each once."""
    return list(dict.fromkeys(one for one in names if may_name(one)))[:MAX_NAMES]


def _general(name: Name) -> x509.GeneralName:
    return x509.DNSName(name) if isinstance(name, str) else x509.IPAddress(name)


def _plain(name: x509.GeneralName) -> Name:
    """An alternative name as `issue` took it."""
    return name.value if isinstance(name.value, IPv4Address | IPv6Address) else str(name.value)


def _read_certificate(raw: bytes) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(raw)
    except (ValueError, TypeError):
        raise Malformed("the certificate of this centre's authority cannot be read") from None


def _read_key(raw: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_der_private_key(raw, None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Malformed("the key of this centre's authority cannot be read")
    return key


def _moment(ms: int) -> datetime:
    """Within the authority's own time, so that a certificate can be made whatever the clock says."""
    first, last = AUTHORITY_BEGINS + timedelta(days=LIFE_DAYS), AUTHORITY_ENDS - timedelta(days=LIFE_DAYS)
    bounded_s = min(max(ms // 1000, int(first.timestamp())), int(last.timestamp()))
    return datetime.fromtimestamp(bounded_s, UTC)


def _ms(when: datetime) -> int:
    return int(when.timestamp() * 1000)
