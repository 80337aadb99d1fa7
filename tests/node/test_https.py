"""`hwc serve` with HTTPS beside HTTP: real TLS on loopback, one program, one signal, and HTTP whatever happens to HTTPS."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from hwc_node import config, server_certificate
from hwc_node.cli import serving as serving_pages
from hwc_node.cli.https import Encrypted
from hwc_node.web.premises import Https, Premises
from sync_protocol.errors import OurFault
from tests.node.enrolled_home import NOW_MS, PASSPHRASE, PERSON_NAME, Home, make_home
from tests.node.https_centre import PATIENCE_S, read, serving


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path)


def test_one_program_serves_both_and_one_signal_ends_both(home: Home) -> None:
    with serving(home) as served:
        trusting = served.trusting()
        assert read(f"{served.encrypted}healthz", trusting) == b"ok\n" == read(f"{served.plain}healthz")
        assert b"Passphrase" in read(served.encrypted, trusting)
        with pytest.raises(urllib.error.URLError, match=r"self-signed|unable to get local issuer"):
            read(f"{served.encrypted}healthz", ssl.create_default_context())
        here = ("127.0.0.1", int(served.encrypted.rpartition(":")[2].strip("/")))
        with (
            socket.create_connection(here, PATIENCE_S) as wire,
            pytest.raises(ssl.SSLCertVerificationError, match="mismatch"),
        ):
            trusting.wrap_socket(wire, server_hostname="evil.example")
        with (
            socket.create_connection(here, PATIENCE_S) as wire,
            trusting.wrap_socket(wire, server_hostname="localhost") as secure,
        ):
            assert secure.version() == "TLSv1.3"
            assert served.stopped() == 0  # somebody is still connected
        assert b"Traceback" not in served.told.read_bytes()
    with home.open() as store:
        assert str(server_certificate.fingerprint(store)) in served.told.read_text()


def test_where_nobody_has_unlocked_https_begins_with_the_first_who_does(home: Home) -> None:
    with serving(home, "--locked") as served:
        assert b"Passphrase" in read(served.plain)
        with pytest.raises(urllib.error.HTTPError, match="404"):
            served.certificate()
        body = f"name={PERSON_NAME}&passphrase={PASSPHRASE}".replace(" ", "+").encode()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        opener.open(urllib.request.Request(f"{served.plain}unlock", body), timeout=PATIENCE_S).close()
        until_s = time.monotonic() + PATIENCE_S
        while b"centre.crt" not in read(f"{served.plain}certificate") and time.monotonic() < until_s:
            time.sleep(0.1)
        assert read(f"{served.encrypted}healthz", served.trusting()) == b"ok\n"
        assert served.stopped(signal.SIGINT) == 0


def test_a_home_that_has_a_certificate_shows_it_before_anybody_unlocks_and_a_new_one_as_it_is_made(home: Home) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        premises = Premises(home.config, lambda _key: home.open(), lambda: NOW_MS)
        encrypted = Encrypted(premises, listener)
        assert encrypted.context.minimum_version == ssl.TLSVersion.TLSv1_2
        encrypted.look()
        assert premises.https is None
        with home.open() as store:
            first = server_certificate.current(store, ["localhost"], NOW_MS)
            encrypted.look()
            assert premises.https == Https(encrypted.port, first)
            premises.store = store
            encrypted.look()  # another program's names: this one has its own
            assert premises.https is not None and premises.https.issued.names == set(
                server_certificate.names_of("127.0.0.1")
            )
            second = premises.https
            home.config.https_path.unlink()
            home.config.https_path.mkdir()
            encrypted.look()
            assert premises.https == second  # what was there holds until another can be made


def test_what_prevents_https_is_told_and_http_goes_on(home: Home) -> None:
    home.config.https_path.mkdir()  # nothing can be written in its place
    with serving(home) as served:
        assert b"Passphrase" in read(served.plain)
        with pytest.raises(urllib.error.HTTPError, match="404"):
            served.certificate()
        assert served.stopped() == 0
    (line,) = [one for one in served.told.read_text().splitlines() if "certificate_not_made" in one]
    assert json.loads(line)["code"] == "E_STORAGE"


def test_a_port_that_is_taken_is_an_error_if_it_was_asked_for_and_else_in_nobodys_way(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken, ExitStack() as closing:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        asked = replace(home.config, https_port=port)
        with pytest.raises(OurFault, match=str(port)) as caught:
            serving_pages._encrypted(closing, Premises(asked, lambda _key: home.open(), lambda: NOW_MS))
        assert (caught.value.code, "--https-port" in caught.value.next_step) == ("E_PORT_TAKEN", True)
        monkeypatch.setattr(config, "DEFAULT_HTTPS_PORT", port)
        default = Premises(replace(home.config, open_to_lan=True), lambda _key: home.open(), lambda: NOW_MS)
        assert serving_pages._encrypted(closing, default) is None
    assert "[E_PORT_TAKEN]" in capsys.readouterr().err


def test_on_the_wifi_the_addresses_are_told_and_where_a_phone_begins(home: Home) -> None:
    with serving(home, HWC_OPEN_TO_LAN="1") as served:
        read(served.plain)
        assert read(f"{served.encrypted}healthz", served.trusting()) == b"ok\n"
        for one in server_certificate.names_of("0.0.0.0"):
            if not isinstance(one, str) and not one.is_loopback:
                assert f"On this centre's Wi-Fi: http://{one}:" in served.told.read_text()
