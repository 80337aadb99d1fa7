"""A real node enrols at a hub that really serves: lost answers, spent, late and mistyped codes, another hub's keys."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hub_server import nodes, vault
from hwc_node import config as settings
from hwc_node import enrolment, sync
from hwc_node.config import NodeConfig
from hwc_node.enrolment import Enrolled
from hwc_node.store import Store
from sync_protocol import keys
from sync_protocol.errors import BadSignature, HealthSyncError, InvalidValue, NeedsPerson
from tests.hub.served_hub import ServedHub

PASSPHRASE = "monsoon lamp river stone"
PERSON = "Sunita Devi"
HOUR_MS = 3_600_000


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture(scope="module")
def hub(module_database_url: str, module_folder: Path) -> Iterator[ServedHub]:
    home = module_folder / "home"
    home.mkdir()
    with ServedHub(home, module_database_url) as served:
        served.start()
        served.world.facility("HWC1")
        served.world.facility("HWC2")
        yield served
        assert served.stop() == 0
        assert PERSON not in served.log.read_text()


@pytest.fixture
def home(tmp_path: Path) -> NodeConfig:
    return settings.load(tmp_path / "home", {})


def code(hub: ServedHub, facility: str = "HWC1", valid_ms: int = HOUR_MS, url: str = "") -> str:
    with hub.world.database.transaction() as connection:
        made = nodes.new_code(
            connection,
            hub.world.vault,
            facility,
            url or f"http://{hub.host}:{hub.port}",
            valid_ms=valid_ms,
            now_ms=now_ms(),
        )
    return made.text()


def enrol(home: NodeConfig, text: str) -> Enrolled:
    return enrolment.enrol(home, text, person_name=PERSON, passphrase=PASSPHRASE, now_ms=now_ms(), node_name="laptop")


def enrolled(hub: ServedHub, facility: str) -> list[bytes]:
    rows = hub.rows("SELECT node FROM node WHERE facility = %s ORDER BY enrolled_ms", facility)
    return [bytes(row[0]) for row in rows]


def refusal(home: NodeConfig, text: str) -> HealthSyncError:
    with pytest.raises(HealthSyncError) as caught:
        enrol(home, text)
    assert PERSON not in caught.value.message
    return caught.value


@contextmanager
def losing(hub: ServedHub, answers: int) -> Iterator[str]:
    """The address of a link to the hub that carries all there, and loses the first answers to an enrolment."""
    left = [answers]

    class Link(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            self._carry(b"")

        def do_POST(self) -> None:
            self._carry(self.rfile.read(int(self.headers["Content-Length"])))

        def _carry(self, body: bytes) -> None:
            answer = hub.ask(self.command, self.path, body)
            if self.path == enrolment.ENROL_PATH and left[0] > 0:
                left[0] -= 1
                self.close_connection = True
                return
            self.send_response(answer.status)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Link)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_node_whose_answers_were_lost_asks_again_and_is_one_node(hub: ServedHub, home: NodeConfig) -> None:
    before = enrolled(hub, "HWC2")
    with losing(hub, answers=2) as url:
        text = code(hub, "HWC2", url=url)
        for _ in range(2):
            assert isinstance(refusal(home, text), sync.HubOutOfReach)
        done = enrol(home, text)
    assert enrolled(hub, "HWC2") == [*before, done.node]
    assert (done.facility, done.facility_name) == ("HWC2", "Centre HWC2")
    with Store.open(home, done.store_key) as store:
        assert (store.membership.node, store.membership.facility) == (done.node, "HWC2")
    again = refusal(home, text)
    assert isinstance(again, NeedsPerson)
    assert again.code == "E_ALREADY_ENROLLED"
    assert enrolled(hub, "HWC2") == [*before, done.node]


def test_a_spent_or_late_or_unknown_code_is_refused_and_the_same_home_takes_a_good_one(
    hub: ServedHub, home: NodeConfig, tmp_path: Path
) -> None:
    spent = code(hub)
    first = enrol(settings.load(tmp_path / "other", {}), spent)
    unknown = keys.EnrolmentCode(bytes(10), keys.fingerprint(hub.world.vault.identity.root.public), "")
    address = f"http://{hub.host}:{hub.port}"
    for text, expected in (
        (spent, "E_CODE_USED"),
        (code(hub, valid_ms=-1), "E_CODE_EXPIRED"),
        (unknown.text() + address, "E_CODE_UNKNOWN"),
    ):
        error = refusal(home, text)
        assert isinstance(error, sync.RefusedByHub)
        assert error.code == expected
        assert error.next_step
    done = enrol(home, code(hub))
    assert done.node != first.node
    assert done.facility == "HWC1"


def test_a_mistyped_code_never_leaves_and_makes_nothing(hub: ServedHub, home: NodeConfig) -> None:
    text = code(hub)
    letter = "2" if text[0] != "2" else "3"
    error = refusal(home, letter + text[1:])
    assert isinstance(error, InvalidValue)
    assert error.code == "E_CODE_MISTYPED"
    assert not home.home.exists()
    assert enrol(home, text.lower().replace("-", " ")).facility == "HWC1"


def test_another_hub_at_the_address_is_found_out_before_anything_is_made_or_told(
    hub: ServedHub, home: NodeConfig, tmp_path: Path
) -> None:
    other = vault.load_or_make(tmp_path / "other-keys", now_ms())
    text = keys.EnrolmentCode(bytes(10), keys.fingerprint(other.root.public), f"http://{hub.host}:{hub.port}").text()
    error = refusal(home, text)
    assert isinstance(error, BadSignature)
    assert not home.slots_path.exists()
    assert not home.database_path.exists()


def test_the_keys_page_is_what_the_codes_fingerprint_vouches_for(hub: ServedHub) -> None:
    answer = hub.ask("GET", "/v1/keys")
    parsed = keys.parse_code(code(hub))
    listed = keys.verify_hub_keys(answer.body, parsed.root_fingerprint)
    assert listed.hub == hub.world.vault.identity.hub
    with pytest.raises(HealthSyncError):
        keys.verify_hub_keys(answer.body, bytes(len(parsed.root_fingerprint)))
