"""A centre's pages in this process: the real application over a real database, asked as a browser asks."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastapi.testclient import TestClient

from hwc_node import keystore
from hwc_node.keystore import DatabaseKey
from hwc_node.store import Store
from hwc_node.web import make_app
from hwc_node.web.premises import Premises
from sync_protocol.change import PersonId
from tests.node.enrolled_home import NOW_MS, PASSPHRASE, PERSON_NAME, Home
from tests.pages.window import Window

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

    def window(self) -> Window:
        return Window(TestClient(self.app, base_url=HERE, follow_redirects=False, raise_server_exceptions=False))

    def window_of(self, name: str = PERSON_NAME, passphrase: str = PASSPHRASE) -> Window:
        """A browser of somebody who is in."""
        made = self.window()
        answer = made.post("/unlock", {"name": name, "passphrase": passphrase})
        assert answer.status_code == 303, answer.text
        return made
