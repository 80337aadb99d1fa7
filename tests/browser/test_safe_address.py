"""A phone on the centre's Wi-Fi, in a real Chromium: the page that tells of the certificate, the way to the safe address,
and the camera that only that lets a page have.

The phone takes this one server's key for good (as after installing the certificate), and no other: what an authority is
taken for is OpenSSL's to show (tests/node/test_local_ca.py).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.sync_api import Browser, Page, Playwright, expect

from hwc_node import lan, server_certificate
from tests.browser import chromium
from tests.browser.conftest import Watched
from tests.node.enrolled_home import PASSPHRASE, PERSON_NAME, Home, make_home
from tests.node.https_centre import Served, serving

SMALL = {"width": 360, "height": 740}
NAME = lan.local_name() or lan.LOCALHOST
WIDER = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
READER = """window.BarcodeDetector = class {
  static async getSupportedFormats() { return ["qr_code"]; }
  async detect(video) { return video.videoWidth ? [{rawValue: "Lakshmi"}] : []; }
};"""
"""A browser's own reader of codes, which Chromium has on phones only: this one sees one in the camera's first picture."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return make_home(tmp_path_factory.mktemp("phone"))


@pytest.fixture(scope="module")
def centre(home: Home) -> Iterator[Served]:
    with serving(home, "--host", "127.0.0.1", HWC_OPEN_TO_LAN="1") as served:
        served.certificate()
        yield served


@pytest.fixture(scope="module")
def phone(playwright: Playwright, home: Home, centre: Served) -> Iterator[Browser]:
    """Finds the centre by its name in .local, has its certificate, and a camera."""
    certificate = x509.load_pem_x509_certificate(home.config.https_path.read_bytes())
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    flags = [
        f"--host-resolver-rules=MAP {NAME} 127.0.0.1",
        f"--ignore-certificate-errors-spki-list={base64.b64encode(hashlib.sha256(key).digest()).decode()}",
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
    ]
    opened = playwright.chromium.launch(**chromium.launch(*flags))
    yield opened
    opened.close()


@pytest.fixture
def watched(phone: Browser) -> Iterator[Watched]:
    with phone.new_context(viewport=SMALL, locale="en-IN") as context:  # type: ignore[arg-type]  # width and height
        made = Watched(context.new_page(), frozenset({NAME, "127.0.0.1"}))
        yield made
        assert made.wrong == []


def at_name(address: str) -> str:
    return address.replace("127.0.0.1", NAME)


def unlock(page: Page) -> None:
    page.get_by_label(PERSON_NAME).check()
    page.get_by_label("Passphrase").fill(PASSPHRASE)
    page.keyboard.press("Enter")
    page.wait_for_selector("nav.app-nav")


def test_the_certificates_page_is_whole_on_a_phone_and_on_the_computer(
    home: Home, centre: Served, watched: Watched
) -> None:
    for address, name in ((at_name(centre.plain), "on-a-phone"), (centre.plain, "on-the-computer")):
        watched.page.goto(f"{address}certificate")
        issued = server_certificate.on_disk(home.config)
        assert issued is not None
        expect(watched.page.locator("code.app-letters")).to_have_text(issued.fingerprint)
        watched.look(f"centre-certificate-{name}")
        assert not watched.page.evaluate(WIDER)
        for one in watched.page.locator("summary").all():
            one.press("Enter")
        watched.look(f"centre-certificate-{name}-all")
        assert not watched.page.evaluate(WIDER)


def test_from_the_plain_lock_screen_a_phone_gets_to_the_safe_address_and_works_there(
    centre: Served, watched: Watched
) -> None:
    page = watched.page
    page.goto(at_name(centre.plain))
    assert not page.evaluate("isSecureContext")
    watched.look("centre-lock-screen-plain")
    page.get_by_role("link", name="Use the safe address").click()
    page.wait_for_url(f"{at_name(centre.encrypted)}unlock")
    assert page.evaluate("isSecureContext")
    expect(page.get_by_role("link", name="Use the safe address")).to_have_count(0)
    unlock(page)
    watched.look("centre-home-encrypted")
    (session,) = [one for one in page.context.cookies() if "session" in one["name"]]
    assert session["name"].startswith("__Host-")
    assert session["secure"]
    page.goto(at_name(centre.plain))  # who is in there is not in here
    expect(page.get_by_role("button", name="Unlock")).to_be_visible()


def test_a_code_before_the_camera_is_put_into_the_box_and_sent(centre: Served, watched: Watched) -> None:
    page = watched.page
    page.add_init_script(READER)
    page.goto(at_name(centre.encrypted))
    unlock(page)
    expect(page.get_by_role("button", name="Scan")).to_be_visible()
    watched.look("centre-home-with-a-camera")
    page.get_by_role("button", name="Scan").click()
    page.get_by_role("button", name="Register as new").wait_for()
    expect(page.locator("#typed")).to_have_value("Lakshmi")
    expect(page.locator("dialog")).to_be_hidden()
    page.goto(f"{at_name(centre.plain)}sync")
    unlock(page)
    watched.look("centre-sync-plain")
    page.goto(at_name(centre.plain))
    expect(page.get_by_role("button", name="Find")).to_be_visible()
    expect(page.get_by_role("button", name="Scan")).to_be_hidden()  # no secure context, no camera


def test_the_camera_can_be_stopped_and_where_it_is_refused_that_is_said(centre: Served, watched: Watched) -> None:
    page = watched.page
    page.add_init_script(READER.replace("video.videoWidth", "false"))
    page.goto(at_name(centre.encrypted))
    unlock(page)
    page.get_by_role("button", name="Scan").click()
    expect(page.locator("dialog video")).to_be_visible()
    expect(page.locator("dialog video")).to_have_js_property("readyState", 4)  # there is a picture
    watched.look("centre-scanner")
    page.keyboard.press("Escape")
    expect(page.locator("dialog video")).to_have_js_property("srcObject", None)  # the camera is off
    expect(page.locator("#typed")).to_have_value("")
    page.evaluate("void (navigator.mediaDevices.getUserMedia = async () => { throw new Error('refused') })")
    page.get_by_role("button", name="Scan").click()
    expect(page.get_by_text("The camera cannot be used.")).to_be_visible()
    watched.look("centre-scanner-refused")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("dialog")).to_be_hidden()
