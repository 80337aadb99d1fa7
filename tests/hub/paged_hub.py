"""A hub's pages in this process: the real application over a real database, and people who can sign in there."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP
from fastapi.testclient import TestClient

from hub_server import people, sign_in
from hub_server.app import Hub, make_app
from hub_server.people import Person, Role
from hub_server.sign_in import passwords, sessions
from hub_server.sign_in.passwords import Hashed
from hub_server.web.cookies import SESSION, Cookies
from hub_server.workers import Threads
from sync_protocol.change import PersonId
from sync_protocol.documents import id_text
from tests.costs import CHEAP
from tests.hub.bare_node import NOW_MS, BareNode
from tests.hub.hub_world import HubWorld
from tests.pages.window import Window

HERE, BEHIND_PROXY = "http://127.0.0.1", "https://hub.example"
PASSWORD = "monsoon lamp river stone"
STEP_S = 30
PEOPLE_TABLES = ("person", "credential", "session", "pending_sign_in", "sign_in_try", "audit")
PATIENT_NAME, COMPLAINT = "Savitri Planted", "planted-complaint"


def hashed(password: str) -> Hashed:
    salt = os.urandom(passwords.SALT_BYTES)
    return Hashed(passwords._derive(passwords._bytes_of(password), salt, CHEAP), salt, CHEAP)


def code_of(secret: bytes, step: int) -> str:
    """As an authenticator shows it in that half minute."""
    return TOTP(secret, 6, SHA1(), STEP_S).generate(step * STEP_S).decode()


@dataclass
class Somebody:
    """Who can sign in. secret: of their second factor. used: the step of the last code they gave."""

    hub: PagedHub
    person: Person
    secret: bytes = b""
    used: int = 0

    def code(self) -> str:
        """A code that was not used yet; the clock goes on to the next half minute where that needs it."""
        while self.hub.step <= self.used:
            self.hub.world.now_ms += STEP_S * 1000
        self.used = self.hub.step
        return code_of(self.secret, self.used)


@dataclass
class PagedHub:
    """One hub, its people, and browsers that ask for its pages. secure: a TLS proxy stands in front."""

    world: HubWorld
    secure: bool = False
    people: dict[str, Somebody] = field(default_factory=dict)

    def __post_init__(self) -> None:
        store, now_ms = self.world.store, lambda: self.world.now_ms
        self.app = make_app(Hub(store, Threads(store, 1, now_ms), now_ms=now_ms, secure=self.secure))

    @property
    def step(self) -> int:
        return self.world.now_ms // 1000 // STEP_S

    def add(
        self,
        login: str,
        role: Role = Role.DOCTOR,
        *specialties: str,
        password: str = PASSWORD,
        one_time: bool = False,
        factor: bool = True,
        **more: Any,
    ) -> Somebody:
        """A person with a password and, unless told otherwise, a second factor. more: of `people.Person`."""
        now_ms, vault = self.world.now_ms, self.world.vault
        number = f"KMC-{login}" if role is Role.DOCTOR else ""
        name = PersonId(people.fresh_id(now_ms, os.urandom(10)))
        person = Person(name, login, f"Name of {login}", role, specialties, "MBBS", number, now_ms, **more)
        made = Somebody(self, person)
        with self.world.database.transaction() as connection:
            people.add(connection, person)
            sign_in.set_password(connection, vault, person, hashed(password), "test", now_ms, must_change=one_time)
            if factor:
                given = sign_in.give_totp(connection, vault, person, "test", now_ms, os.urandom(20))
                made.secret = base64.b32decode(given.letters.replace(" ", ""))
        self.people[login] = made
        return made

    def window(self) -> Window:
        """A browser of nobody yet."""
        base = BEHIND_PROXY if self.secure else HERE
        return Window(
            TestClient(self.app, base_url=base, follow_redirects=False, raise_server_exceptions=False), "/account"
        )

    def window_of(self, login: str) -> Window:
        """A browser with a session of this person, opened without the pages."""
        made = self.window()
        with self.world.database.transaction() as connection:
            token = sessions.open_session(connection, self.people[login].person.id, self.world.now_ms, os.urandom(32))
        self.bring(made, SESSION, token)
        return made

    def bring(self, window: Window, cookie: str, value: str) -> None:
        """Let the browser have this cookie, as if it had been given it here."""
        host = (BEHIND_PROXY if self.secure else HERE).rpartition("/")[2]
        window.client.cookies.set(Cookies(self.secure).name_of(cookie), value, domain=host, path="/")

    def empty(self) -> None:
        """As it was made: for tests that share one database."""
        with self.world.database.transaction() as connection:
            connection.execute(f"TRUNCATE {', '.join(PEOPLE_TABLES)}")
        self.people.clear()
        self.world.now_ms = NOW_MS

    def signed_in(self, login: str, password: str = PASSWORD) -> Window:
        """A browser that signed in by the pages."""
        made = self.window()
        answer = made.send("/sign-in", {"login": login, "password": password})
        assert answer.headers.get("location") == "/sign-in/code", answer.text
        answer = made.send("/sign-in/code", {"code": self.people[login].code()})
        assert answer.headers.get("location") == "/", answer.text
        return made

    def refer(self, specialty: str = "ent", urgency: str = "urgent", *, node: BareNode | None = None) -> str:
        """A referral of a patient whose name and complaint are planted; its id, as a path has it."""
        if node is None:
            self.world.facility("HWC1")
            node = self.world.node("HWC1")
        patient = node.write("patient", {"name": PATIENT_NAME, "sex": "F"})
        case = node.write("case", {"history": COMPLAINT}, patient=patient.record)
        asked = {"case": case.record, "specialty": specialty, "urgency": urgency, "question": COMPLAINT}
        referral = node.write("referral", asked, patient=patient.record)
        self.world.exchange(node, [node.pack([patient, case, referral]).envelope.raw])
        self.world.admit()
        return id_text(referral.record)

    def noted(self, verb: str) -> int:
        """How often this verb stands in the audit."""
        with self.world.database.transaction() as connection:
            row = connection.execute("SELECT count(*) FROM audit WHERE verb = %s", (verb,)).fetchone()
        return int(row[0]) if row else 0
