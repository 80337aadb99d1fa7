"""The pages at the plain and at the safe address: the way from one to the other, and that a session is of one alone."""

from __future__ import annotations

import hashlib
import html
import re
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from hwc_node import server_certificate
from hwc_node.local_ca import Name
from hwc_node.web.addresses import ENCRYPTED_COOKIE, PLAIN_COOKIE
from hwc_node.web.premises import Https
from tests.node.enrolled_home import FACILITY, NOW_MS, PASSPHRASE, PERSON_NAME
from tests.node.paged_centre import HERE, Centre
from tests.pages.window import words

WIFI, PORT, SECURE_PORT = IPv4Address("192.168.1.10"), 8090, 8453
PLAIN, SAFE = f"http://{WIFI}:{PORT}", f"https://{WIFI}:{SECURE_PORT}"
IN = {"name": PERSON_NAME, "passphrase": PASSPHRASE}


@pytest.fixture
def centre(tmp_path: Path) -> Centre:
    """A centre on its Wi-Fi, with HTTPS."""
    made = Centre.begin(tmp_path)
    names: list[Name] = ["localhost", "rampur.local", IPv4Address("127.0.0.1"), WIFI]
    made.premises.port = PORT
    made.premises.https = Https(SECURE_PORT, server_certificate.current(made.store, names, NOW_MS))
    return made


@pytest.fixture
def plain_centre(tmp_path: Path) -> Centre:
    return Centre.begin(tmp_path)


# -- the certificate ---------------------------------------------------------------------------------------------------


def test_what_a_phone_downloads_is_the_certificate_of_the_fingerprint_that_is_shown(centre: Centre) -> None:
    window = centre.window(PLAIN)
    answer = window.get("/certificate/centre.crt")
    assert answer.headers["content-type"] == "application/x-x509-ca-cert"
    assert "content-disposition" not in answer.headers
    assert answer.headers["cache-control"] == "no-store"
    shown = re.search(r'<code class="app-letters">([^<]+)</code>', window.get("/certificate").text)
    assert shown is not None
    assert re.sub("[ :]", "", shown[1]).lower() == hashlib.sha256(answer.content).hexdigest()
    assert html.unescape(shown[1]) == server_certificate.fingerprint(centre.store)


def test_the_computers_own_sync_page_shows_what_to_compare_with(centre: Centre) -> None:
    page = centre.window_of().get("/sync").text
    assert str(server_certificate.fingerprint(centre.store)) in html.unescape(page)
    assert 'href="/certificate"' in page


def test_on_a_phone_the_page_says_that_it_cannot_prove_itself_and_on_the_computer_that_it_is_right(
    centre: Centre,
) -> None:
    there, here = centre.window(PLAIN).shown("/certificate"), centre.window(HERE).shown("/certificate")
    assert "This page alone cannot prove that it is the right one" in there
    assert "what stands here is right" not in there
    assert "what stands here is right" in here


def test_the_computer_shows_a_code_that_opens_the_page_on_a_phone(centre: Centre) -> None:
    for address in (HERE, PLAIN, SAFE):
        page = centre.window(address).get("/certificate").text
        assert f"<code>{PLAIN}/certificate</code>" in page
        assert 'class="app-qr"' in page
        assert f'href="{SAFE}/"' in page
    for address in ("http://rampur.local:8090", "https://rampur.local:8453"):
        page = centre.window(address).get("/certificate").text
        assert "<code>http://rampur.local:8090/certificate</code>" in page


def test_nothing_of_the_centres_records_stands_on_the_public_page(centre: Centre) -> None:
    centre.window_of().register("Lakshmi Devi")
    for window in (centre.window(PLAIN), centre.window_of(address=PLAIN)):
        shown = window.shown("/certificate")
        assert "Lakshmi" not in shown
        assert PERSON_NAME not in shown
        assert FACILITY not in shown


def test_without_https_the_page_says_how_to_turn_it_on_and_there_is_no_file(plain_centre: Centre) -> None:
    window = plain_centre.window(PLAIN)
    assert "open_to_lan" in window.shown("/certificate")
    assert window.get("/certificate/centre.crt").status_code == 404
    assert "Use the safe address" not in window.shown("/unlock")


# -- the way to the safe address ---------------------------------------------------------------------------------------


def test_over_the_wifi_each_page_that_is_not_encrypted_leads_to_itself_at_the_safe_address(centre: Centre) -> None:
    assert f'href="{SAFE}/unlock"' in centre.window(PLAIN).get("/unlock").text
    window = centre.window_of(address=PLAIN)
    path = window.register()
    for page in ("/today", path):
        assert f'href="{SAFE}{page}"' in window.get(page).text
    answer = window.post("/find", {"csrf": window.csrf, "typed": "Lak"})
    assert SAFE not in answer.text  # an address that only a form leads to


def test_it_is_not_offered_where_it_is_needless_or_would_not_open(centre: Centre) -> None:
    for address in (SAFE, HERE, "http://localhost:8090", "http://[::1]:8090", "http://10.0.0.9:8090"):
        for page in (centre.window(address).get("/unlock"), centre.window_of(address=address).get("/today")):
            assert page.status_code == 200
            assert "Use the safe address" not in words(page.text), address


def test_no_answer_asks_a_browser_to_stay_with_https(centre: Centre) -> None:
    for address in (PLAIN, SAFE):
        for path in ("/unlock", "/", "/certificate", "/certificate/centre.crt", "/healthz", "/none"):
            answer = centre.window(address).get(path)
            assert "strict-transport-security" not in answer.headers
            assert "upgrade-insecure-requests" not in answer.headers["content-security-policy"]


@pytest.mark.parametrize("host", ["[::1", "[192.168.1.10", "a]b.local", "192.168.1.10:8453:1", "::::"])
def test_an_odd_host_is_no_error_of_ours(centre: Centre, host: str) -> None:
    for path in ("/unlock", "/certificate", "/healthz"):
        assert centre.window().client.get(path, headers={"host": host}).status_code in (200, 400, 421)


# -- sessions ----------------------------------------------------------------------------------------------------------


def test_the_safe_addresss_cookie_is_for_this_host_over_https_and_nothing_else(centre: Centre) -> None:
    said = centre.window(SAFE).post("/unlock", IN).headers.get_list("set-cookie")[0]
    assert said.startswith(f"{ENCRYPTED_COOKIE}=")
    assert ENCRYPTED_COOKIE.startswith("__Host-")
    parts = {part.strip().lower() for part in said.split(";")}
    assert {"secure", "httponly", "samesite=strict", "path=/"} <= parts
    assert not any(part.startswith("domain") for part in parts)
    plain = centre.window(PLAIN).post("/unlock", IN).headers.get_list("set-cookie")[0]
    assert plain.startswith(f"{PLAIN_COOKIE}=")
    assert "secure" not in plain.lower().split("; ")


def test_a_session_counts_only_the_way_it_began(centre: Centre) -> None:
    """Neither overheard over HTTP and used over HTTPS, nor slipped in there for somebody to work under."""
    for address, other in ((PLAIN, SAFE), (SAFE, PLAIN)):
        (token,) = centre.window_of(address=address).client.cookies.values()
        for cookie in (PLAIN_COOKIE, ENCRYPTED_COOKIE):
            thief = centre.window(other)
            thief.client.cookies.set(cookie, token)
            assert thief.get("/today").headers.get("location") == "/unlock"
            assert PERSON_NAME not in thief.get("/unlock").text.partition("<form")[0]


def test_both_ways_are_used_side_by_side_and_locking_one_leaves_the_other(centre: Centre) -> None:
    safe, plain = centre.window_of(address=SAFE), centre.window_of(address=PLAIN)
    assert safe.post("/lock", {"csrf": safe.csrf}).headers["location"] == "/unlock"
    assert safe.get("/today").status_code == 303
    assert plain.get("/today").status_code == 200


# -- the camera --------------------------------------------------------------------------------------------------------


def test_a_page_may_see_only_where_a_browser_would_let_it(centre: Centre) -> None:
    for address, seen in ((SAFE, True), (HERE, True), ("http://localhost:8090", True), (PLAIN, False)):
        said = centre.window(address).get("/unlock").headers
        assert ("camera=(self)" in said["permissions-policy"]) is seen, address
        assert "microphone=()" in said["permissions-policy"]
        assert ("cross-origin-opener-policy" in said) is seen, address  # elsewhere a browser ignores it, and complains
