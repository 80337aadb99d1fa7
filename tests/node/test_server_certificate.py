"""The pages' certificate in a real home: where its parts lie, when it is made anew, what backups and clocks do to it."""

from __future__ import annotations

import multiprocessing
import resource
import stat
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key

from hwc_node import backup, local_ca, membership, server_certificate
from hwc_node.config import NodeConfig
from hwc_node.engine import begin_write
from hwc_node.keystore import DatabaseKey
from hwc_node.local_ca import DAY_MS, Issued, Name
from hwc_node.store import Store
from sync_protocol.errors import OurFault
from tests.beside import BESIDE
from tests.node.enrolled_home import NOW_MS, PASSPHRASE, PERSON_NAME, Home, make_home
from tests.node.paper_hub import PaperHub
from tests.node.peer import Peer
from tests.node.served_centre import Centre

NAMES: Sequence[Name] = ["localhost", IPv4Address("127.0.0.1"), IPv4Address("192.168.1.10")]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path)


def current(store: Store, names: Sequence[Name] = NAMES, now_ms: int = NOW_MS) -> Issued:
    return server_certificate.current(store, names, now_ms)


def put(store: Store, **values: object) -> None:
    with begin_write(store.engine) as connection:
        membership.put(connection, values)


def test_enrolling_makes_the_centres_authority_and_a_second_look_finds_it(tmp_path: Path) -> None:
    with Peer(PaperHub()).answering() as peer:
        centre = Centre.enrol(peer, tmp_path / "node")
        with centre.open() as store:
            told = server_certificate.fingerprint(store)
            assert told is not None
            assert local_ca.fingerprint(server_certificate.authority(store).certificate) == told
        assert not centre.config.https_path.exists()


def test_the_authoritys_key_stands_nowhere_in_the_clear(home: Home) -> None:
    with home.open() as store:
        issuer = server_certificate.authority(store)
        current(store)
    raw = {path.name: path.read_bytes() for path in home.config.home.iterdir() if path.is_file()}
    key = load_der_private_key(issuer.key, None)
    assert isinstance(key, EllipticCurvePrivateKey)
    secret = key.private_numbers().private_value.to_bytes(32, "big")
    forms = (issuer.key, secret, secret.hex().encode(), issuer.key.hex().encode())
    assert [name for name, content in raw.items() if any(form in content for form in forms)] == []
    assert issuer.certificate not in raw["node.db"] + raw.get("node.db-wal", b"")
    assert stat.S_IMODE(home.config.https_path.stat().st_mode) == 0o600


def test_the_certificate_is_kept_until_the_machine_is_called_something_else(home: Home) -> None:
    with home.open() as store:
        first = current(store)
        kept = home.config.https_path.read_bytes()
        assert (current(store), home.config.https_path.read_bytes()) == (first, kept)
        moved = current(store, [*NAMES[:-1], IPv4Address("192.168.43.5")])
        assert moved.names == {"localhost", IPv4Address("127.0.0.1"), IPv4Address("192.168.43.5")}
        assert (moved.authority, server_certificate.on_disk(home.config)) == (first.authority, moved)


def test_it_is_made_anew_when_a_third_of_its_time_is_left(home: Home) -> None:
    with home.open() as store:
        first = current(store)
        assert current(store, now_ms=NOW_MS + 100 * DAY_MS) == first
        later = current(store, now_ms=NOW_MS + 200 * DAY_MS)
        assert later.ends_ms == first.ends_ms + 200 * DAY_MS


@pytest.mark.parametrize(
    "content", [b"", b"rubbish", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_file_that_was_cut_or_is_lost_is_made_anew(home: Home, content: bytes) -> None:
    with home.open() as store:
        first = current(store)
        home.config.https_path.write_bytes(content)
        assert server_certificate.on_disk(home.config) is None
        assert current(store).authority == first.authority
        home.config.https_path.unlink()
        assert current(store).authority == first.authority


def test_a_full_disk_is_a_coded_error_and_the_old_one_stays(home: Home) -> None:
    with home.open() as store:
        first = current(store)
        before, most = resource.getrlimit(resource.RLIMIT_FSIZE)  # stands in for the disk, as in test_full_disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, most))
        try:
            with pytest.raises(OurFault) as caught:
                current(store, NAMES[:1])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))
        assert caught.value.code == "E_DISK_FULL"
        assert server_certificate.on_disk(home.config) == first
        assert [path for path in home.config.home.iterdir() if path.name.endswith(".tmp")] == []


def test_a_clock_that_lies_makes_no_certificate_that_a_phone_refuses(home: Home) -> None:
    """The hub certified this node at NOW_MS: before that is not, and long after only if nothing says otherwise."""

    def holds_at(issued: Issued, now_ms: int) -> bool:
        return issued.begins_ms < now_ms < issued.ends_ms - local_ca.RENEW_BEFORE_DAYS * DAY_MS

    with home.open() as store:
        assert holds_at(current(store, now_ms=0), NOW_MS)  # 1970: the battery of its clock is empty
        assert holds_at(current(store, now_ms=4_070_908_800_000), NOW_MS)  # 2099
        year_ms = 365 * DAY_MS
        put(store, hub_time_ms=NOW_MS + year_ms, clock_error_ms=year_ms)  # it stands a year ahead
        assert holds_at(current(store, now_ms=NOW_MS + 2 * year_ms + DAY_MS), NOW_MS + year_ms + DAY_MS)
        put(store, hub_time_ms=NOW_MS + year_ms, clock_error_ms=-year_ms)  # it stood a year behind, and was put right
        assert holds_at(current(store, now_ms=NOW_MS + year_ms + DAY_MS), NOW_MS + year_ms + DAY_MS)


def test_a_restored_node_has_the_authority_that_its_phones_know(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "one.hwcbackup"
    with home.open() as store:
        first = current(store)
        backup.write(store, file, NOW_MS)
    target = replace(home.config, home=tmp_path / "new")
    backup.restore(target, file, backup.unlock(target, file, PASSPHRASE, PERSON_NAME), NOW_MS)
    assert not target.https_path.exists()
    with Store.open(target, home.key) as store:
        assert current(store).authority == first.authority


def test_a_backup_from_before_there_was_an_authority_gets_one_and_the_file_follows(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "old.hwcbackup"
    with home.open() as store:
        backup.write(store, file, NOW_MS)
        first = current(store)
    backup.restore(home.config, file, backup.unlock(home.config, file, PASSPHRASE, PERSON_NAME), NOW_MS)
    with home.open() as store:
        assert server_certificate.fingerprint(store) is None
        second = current(store)
        assert second.authority != first.authority
        assert server_certificate.fingerprint(store) == second.fingerprint


def _ask(config: NodeConfig, key: bytes, answers: multiprocessing.Queue[bytes]) -> None:
    with Store.open(config, DatabaseKey(key)) as store:
        answers.put(server_certificate.current(store, NAMES, NOW_MS).authority)


def test_two_programs_that_ask_at_once_get_one_authority(home: Home) -> None:
    answers: multiprocessing.Queue[bytes] = BESIDE.Queue()
    asking = [BESIDE.Process(target=_ask, args=(home.config, home.key, answers)) for _ in range(2)]
    for one in asking:
        one.start()
    found = {answers.get(timeout=120) for _ in asking}
    for one in asking:
        one.join(120)
    assert len(found) == 1
    with home.open() as store:
        assert server_certificate.authority(store).certificate in found
        assert current(store).authority in found


def test_what_a_server_is_called_holds_at_loopback_and_on_the_wifi() -> None:
    assert {"localhost", IPv4Address("127.0.0.1")} <= set(server_certificate.names_of("127.0.0.1"))
    assert IPv4Address("192.168.1.10") in server_certificate.names_of("192.168.1.10")
    assert IPv4Address("192.168.1.10") not in server_certificate.names_of("127.0.0.1")
