"""Real programs for the pages' tests: a hub, a centre that serves, people who can sign in."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from bench import places
from bench.places import HubPlace, Place, free_port, wait_until_ready
from bench.sign_ins import Doctor
from hub_server import config as hub_settings
from hub_server import people, postgres, sign_in, vault
from hub_server.database import Database

FACILITY = "HWC000001"
PASSPHRASE = "monsoon lamp river stone"
CHO, SECOND_CHO = "Asha Devi", "Meena Kumari"
STOP_S = 120


@dataclass
class Stage:
    """A hub with doctors, and a centre's node that serves its pages."""

    folder: Path
    hub: HubPlace
    node: Place
    node_port: int
    server: subprocess.Popen[bytes] | None = None
    second: Place | None = None
    doctors: dict[str, Doctor] = field(default_factory=dict)

    @classmethod
    def below(cls, folder: Path, database_url: str) -> Stage:
        port = free_port()
        environment = {
            "HWC_HOME": str(folder / "node"),
            "HWC_PASSPHRASE": PASSPHRASE,
            "HWC_PERSON_NAME": CHO,
            "HWC_PORT": str(port),
            "HWC_SYNC_INTERVAL_S": "10",
        }
        hub = HubPlace.below(folder, "--workers", "0", database_url=database_url)
        return cls(folder, hub, Place("hwc", environment), port)

    @property
    def node_url(self) -> str:
        return f"http://127.0.0.1:{self.node_port}"

    def start(self) -> None:
        self.hub.start()
        self.hub.run("facility", "add", FACILITY, "Rampur", "--district", "Mysuru", "--state", "Karnataka")
        for login, name, words in (
            ("dr.rao", "Dr Kavita Rao", ("--registration-number", "KMC 51234", "--qualification", "MBBS, MD")),
            ("dr.skin", "Dr Neha Shah", ("--registration-number", "KMC 9", "--specialty", "dermatology")),
            ("officer", "Ravi Kumar", ("--role", "district_officer")),
        ):
            self.hub.run("people", "add", login, "--name", name, *words)
            self.doctors[login] = Doctor(login, name, PASSPHRASE)
        self._let_sign_in()
        self.node.run("enrol", self.hub.ask("enrol", FACILITY)["code"])
        self.serve()

    def _let_sign_in(self) -> None:
        config = hub_settings.load(None, self.hub.environment)
        with postgres.ensure_running(config) as running:
            database = Database(running.url)
            now_ms = time.time_ns() // 1_000_000
            keys = vault.Vault(vault.load_or_make(config.keys_folder, now_ms))
            for doctor in self.doctors.values():
                with database.transaction() as connection:
                    person = people.find(connection, doctor.login)
                    made = sign_in.make_password(PASSPHRASE, person, os.urandom(16))
                    sign_in.set_password(connection, keys, person, made, "test", now_ms)
                    factor = sign_in.give_totp(connection, keys, person, "test", now_ms, os.urandom(32))
                doctor.secret = factor.letters.replace(" ", "")
            database.close()

    def second_node(self) -> Place:
        """Another device of the same centre, with another person's; enrolled once, used by its commands."""
        if self.second is None:
            own = {"HWC_HOME": str(self.folder / "second"), "HWC_PERSON_NAME": SECOND_CHO}
            self.second = Place("hwc", self.node.environment | own)
            self.second.run("enrol", self.hub.ask("enrol", FACILITY)["code"])
        return self.second

    def serve(self) -> None:
        """The centre's pages. Returns when they answer."""
        with (self.folder / "node.log").open("ab") as log:
            self.server = subprocess.Popen(
                [str(places.BIN / "hwc"), "serve"],
                env=os.environ | self.node.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until_ready(f"{self.node_url}/healthz", self.server, self.folder / "node.log")

    def stop_serving(self) -> None:
        if self.server is not None:
            self.server.send_signal(signal.SIGTERM)
            self.server.wait(STOP_S)
            self.server = None

    def stop(self) -> None:
        self.stop_serving()
        self.hub.stop()
