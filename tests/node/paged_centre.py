"""A centre's pages in this process: the real application over a real database, asked as a browser asks."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from fastapi.testclient import TestClient

from hwc_node import keystore
from hwc_node.keystore import DatabaseKey
from hwc_node.store import KeptRecord, Store
from hwc_node.web import make_app
from hwc_node.web.premises import Premises
from sync_protocol.change import PersonId
from tests.node.enrolled_home import NOW_MS, PASSPHRASE, PERSON_NAME, Home, make_home
from tests.pages.window import Window, hidden, words

HERE = "http://127.0.0.1"
SECOND, SECOND_NAME, SECOND_PASSPHRASE = PersonId(b"Meena, a person:"), "Meena Kumari", "river lamp monsoon stone"


@dataclass
class Clock:
    """now_ms: the wall clock. s: the monotonic one, which sessions go by."""

    now_ms: int = NOW_MS
    s: float = 1_000.0

    def wall(self) -> int:
        return self.now_ms

    def monotonic(self) -> float:
        return self.s


@dataclass
class Centre:
    """One home, its pages, and browsers that ask for them."""

    home: Home
    clock: Clock = field(default_factory=Clock)

    @classmethod
    def begin(cls, folder: Path) -> Centre:
        return cls(make_home(folder))

    def __post_init__(self) -> None:
        self.store = self.home.open()
        self.premises = Premises(self.home.config, lambda key: Store.open(self.home.config, key), self.clock.wall)
        self.premises.store = self.store
        self.premises.sessions._clock = self.clock.monotonic
        self.premises.patience._clock = self.clock.monotonic
        self.app = make_app(self.premises)

    def add_second(self) -> None:
        keystore.add_slot(
            self.home.config.slots_path, DatabaseKey(self.home.key), SECOND, SECOND_NAME, SECOND_PASSPHRASE
        )

    def window(self, address: str = HERE) -> CentreWindow:
        asking = TestClient(self.app, base_url=address, follow_redirects=False, raise_server_exceptions=False)
        return CentreWindow(asking)

    def window_of(self, name: str = PERSON_NAME, passphrase: str = PASSPHRASE, address: str = HERE) -> CentreWindow:
        """A browser of somebody who is in."""
        made = self.window(address)
        answer = made.post("/unlock", {"name": name, "passphrase": passphrase})
        assert answer.status_code == 303, answer.text
        return made

    def records(self, kind: str) -> list[KeptRecord]:
        """The records of a kind that are here, first to last."""
        return sorted(self.store.records(kind=kind), key=lambda one: one.kept[0].held.order)


@dataclass
class CentreWindow(Window):
    """A browser at the centre, and a day's work in it."""

    def register(self, name: str = "Lakshmi Devi", **fields: str) -> str:
        """A new patient; their page's path."""
        given = {"name": name, "sex": "F", "age": "34", "given": "yes", "new": "yes", "then": "stay", **fields}
        path = self.saved("/register", given).removesuffix("/visit")
        assert re.fullmatch(r"/patients/[0-9a-f-]{36}", path), path
        return path

    def visit(self, patient: str, **fields: str) -> str:
        """A visit; its case's id."""
        form = self.get(f"{patient}/visit").text
        case = hidden(form)["case"]
        sent = {**hidden(form), "complaints": "fever", **fields}
        answer = self.post(f"{patient}/visit", sent)
        assert answer.status_code == 303, words(answer.text)[:2000]
        return str(case)

    def refer(self, patient: str, case: str, **fields: str) -> str:
        """A referral of a visit; its page's path."""
        given = {"specialty": "general-medicine", "urgency": "routine", "question": "What to give?", **fields}
        return self.saved(f"{patient}/cases/{case}/refer", given)
