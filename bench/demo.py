"""The main job with real processes on this machine: `make demo`.

A hub on its own PostgreSQL, two facilities, three nodes, one doctor. Everything lives in one temporary folder, which is
removed at the end unless KEEP=1. In a terminal the pages stay up until Ctrl-C, so that whoever tries it can look around.
Exit status 0 only if every step held.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from bench import places
from bench.browsing import Browser
from bench.places import HubPlace, Place, Served, StepFailed, hold
from bench.sign_ins import Doctor, let_in, signed_in
from bench.visits import Visits

CONSULTATIONS: Final = 200
LATER_CONSULTATIONS: Final = 40
UNREACHABLE: Final = 5
FIRST, SECOND = "HWC000001", "HWC000002"
OFFICER: Final = "Sunita Devi"
PASSPHRASE: Final = "monsoon lamp river stone"
PASSWORD: Final = "kettle orchard violin harbour"


def say(text: str) -> None:
    print(f"   {text}", flush=True)


def step(number: int, title: str) -> None:
    print(f"\n{number}. {title}", flush=True)


@dataclass
class Totals:
    bytes_up: int = 0
    bytes_down: int = 0
    requests: int = 0
    seconds: float = 0.0


@dataclass
class NodePlace(Place):
    """A node's home, and what its syncs came to."""

    totals: Totals = field(default_factory=Totals)

    def sync(self) -> Any:
        told = self.ask("sync")
        self.totals.bytes_up += told["bytes_up"]
        self.totals.bytes_down += told["bytes_down"]
        self.totals.requests += told["requests"]
        self.totals.seconds += told["seconds"]
        return told

    def take(self, documents: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Import documents; the answers. Raises StepFailed if one was refused."""
        given = "".join(json.dumps(document, ensure_ascii=False) + "\n" for document in documents)
        answers = [json.loads(line) for line in self.run("import", "-", given=given).splitlines()]
        hold(all(one["verdict"] in ("created", "changed") for one in answers), "a line of an import was not taken")
        return answers


class Demo:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hub = HubPlace.below(folder)
        self.nodes: dict[str, NodePlace] = {}
        self.doctor = Doctor("doc00001", "Dr Kavita Rao", PASSWORD)
        self.centre: Served | None = None

    # -- the steps

    def prepare(self) -> None:
        print("A hub, two facilities, a doctor and three nodes, all on this machine.", flush=True)
        self.hub.start()
        self.hub.run("facility", "add", FIRST, "Rampur health and wellness centre")
        self.hub.run("facility", "add", SECOND, "Nallur health and wellness centre")
        registered = ("--registration-number", "KMC 51234", "--qualification", "MBBS, MD")
        self.hub.run("people", "add", self.doctor.login, "--name", self.doctor.name, *registered)
        for name, facility, person in (
            ("Rampur laptop", FIRST, OFFICER),
            ("Rampur tablet", FIRST, "Ramesh Kumar"),
            ("Nallur laptop", SECOND, "Meena Pillai"),
        ):
            node = NodePlace(
                "hwc",
                {
                    "HWC_HOME": str(self.folder / name.replace(" ", "-").lower()),
                    "HWC_PASSPHRASE": PASSPHRASE,
                    "HWC_PERSON_NAME": person,
                },
            )
            code = self.hub.ask("enrol", facility)["code"]
            node.run("enrol", code)
            self.nodes[name] = node
            say(f"{name}: enrolled at {facility} by a one-time code; {person} unlocks it with a passphrase")

    def record_offline(self) -> None:
        step(1, "Both facilities record, with the hub stopped")
        self.hub.stop()
        for name, number in (("Rampur laptop", 1), ("Nallur laptop", 2)):
            began = time.monotonic()
            answers = self.nodes[name].take(Visits(number, seed=7).documents(CONSULTATIONS))
            say(
                f"{name}: {CONSULTATIONS} consultations, {len(answers)} records saved in {time.monotonic() - began:.1f} s"
            )
        typed = self.nodes["Rampur laptop"].take(HAND_TYPED)
        say(f"Rampur laptop: {len(typed)} records typed by hand, one an emergency referral")
        self.nodes["Rampur laptop"].run("sync", expect=UNREACHABLE)
        status = self.nodes["Rampur laptop"].ask("status")
        say(f"hwc sync says that the hub cannot be reached; {status['pending_changes']} changes wait on this computer")

    def queue_and_reply(self) -> None:
        step(2, "The hub comes up, the nodes sync, the doctor answers")
        self.hub.start()
        for name, node in self.nodes.items():
            told = node.sync()
            hold(told["pending_changes"] == 0, f"{name} still has something to send")
            say(
                f"{name}: sent {told['sent_changes']} changes in {told['bytes_up']:,} bytes, "
                f"received {told['received_changes']}, {told['requests']} requests, {told['seconds']:.1f} s"
            )
        queue = self.hub.lines("referrals", "list", "--json")
        ranks = [("emergency", "urgent", "routine").index(one["urgency"]) for one in queue]
        hold(ranks == sorted(ranks), "the queue is not in the order of urgency")
        counts = [f"{ranks.count(rank)} {word}" for rank, word in enumerate(("emergency", "urgent", "routine"))]
        say(f"the doctor's queue: {len(queue)} referrals, most urgent first ({', '.join(counts)})")
        self.nodes["Rampur laptop"].take([ALLERGY_LEARNED_LATER])
        say("meanwhile at Rampur, offline again: the patient remembers an allergy to penicillin")
        hold(any(one["id"] == REFERRAL for one in queue), "the typed referral is not in the queue")
        reply = self.folder / "reply.json"
        reply.write_text(json.dumps(REPLY, ensure_ascii=False))
        self.hub.run("claim", REFERRAL, "--as", "doc00001")
        self.hub.run("reply", REFERRAL, "--as", "doc00001", "--file", str(reply))
        say("Dr Kavita Rao claims the emergency and replies: amoxicillin for 5 days")

    def answer_arrives(self) -> None:
        step(3, "The next sync brings the reply")
        node = self.nodes["Rampur laptop"]
        node.sync()
        node.sync()
        (mine,) = [one for one in node.lines("referrals", "list", "--json") if one["id"] == REFERRAL]
        hold(mine["status"] == "answered", f"the referral is {mine['status']}, not answered")
        say("the referral's status at the centre: answered")
        unseen = [one["field"] for one in mine["not_seen_by_doctor"]]
        hold("allergies/penicillin" in unseen, "what the doctor had not seen is not listed")
        say(f"written before the hub knew, so the doctor had not seen it: {', '.join(unseen)}")

    def conflict(self) -> None:
        step(4, "Two nodes of one facility change the same patient, offline from each other")
        laptop, tablet = self.nodes["Rampur laptop"], self.nodes["Rampur tablet"]
        for node in (laptop, tablet, laptop):
            node.sync()
        laptop.take(
            [
                edit("patient", PATIENT, {"phone": "+919800000001", "allergies": ["sulfonamide"]}),
                edit("case", CASE, {"provisional_diagnosis": PNEUMONIA}),
            ]
        )
        tablet.take(
            [
                edit("patient", PATIENT, {"village": "Rampur Khurd", "allergies": ["aspirin"]}),
                edit("case", CASE, {"provisional_diagnosis": BRONCHITIS}),
            ]
        )
        for node in (laptop, tablet, laptop):
            node.sync()
        (patient,) = laptop.lines("export", "--kind", "patient", "--patient", PATIENT)
        shown = patient["fields"]
        hold(shown["phone"] == "+919800000001" and shown["village"] == "Rampur Khurd", "a field was lost")
        say("different fields: both kept, no conflict")
        kept = sorted(name.partition("/")[2] for name in shown if name.startswith("allergies/"))
        hold(kept == ["aspirin", "penicillin", "sulfonamide"], f"the allergies are {kept}")
        say(f"an allergy each: all kept ({', '.join(kept)})")
        print(indented(laptop.run("conflicts", "list")))
        (one,) = laptop.ask("conflicts", "list")["conflicts"]
        print(indented(laptop.run("conflicts", "show", one["id"])))
        laptop.run("conflicts", "resolve", one["id"], "--take", "1", "--note", "chest X-ray seen")
        say("hwc conflicts resolve: settled; what the other had written stays in the history")
        for name in ("Rampur laptop", "Rampur tablet", "Nallur laptop", "Rampur laptop"):
            self.nodes[name].sync()
        self.compare(FIRST, "Rampur laptop", "Rampur tablet")
        self.compare(SECOND, "Nallur laptop")

    def node_put_back(self) -> None:
        step(5, "A node's database is put back to an old copy, used, and synced")
        laptop, copy = self.nodes["Rampur laptop"], str(self.folder / "rampur.hwcbackup")
        laptop.run("backup", copy)
        laptop.take([edit("case", CASE, {"plan": "oxygen, then the district hospital"})])
        laptop.sync()
        laptop.sync()
        laptop.take([edit("case", CASE, {"outcome": "under_care"})])  # never sent: only in what is kept
        before = int(laptop.ask("status")["changes"])
        kept = laptop.ask("restore", copy, "--yes")["kept"]
        after = int(laptop.ask("status")["changes"])
        hold(after == before - 2, f"the old copy has {after} changes, not {before - 2}")
        say(f"hwc restore: {before} changes became {after}; what was there is kept in {Path(kept).name}")
        laptop.take([edit("patient", PATIENT, {"guardian": "Mohan Lal"})])
        laptop.sync()
        laptop.sync()
        (case,) = laptop.lines("export", "--kind", "case", "--patient", PATIENT)
        hold(case["fields"]["plan"].startswith("oxygen"), "what had been sent did not come back")
        say("the sync brings back what it had sent; what it wrote meanwhile has new names and collides with nothing")
        self.nodes["Rampur tablet"].sync()
        self.compare(FIRST, "Rampur laptop", "Rampur tablet")

    def hub_put_back(self) -> None:
        step(6, "The hub's PostgreSQL is put back from a backup, and the nodes sync")
        laptop, nallur = self.nodes["Rampur laptop"], self.nodes["Nallur laptop"]
        saved = str(self.folder / "hub.hubbackup")
        items = int(self.hub.ask("backup", saved)["items"])
        say(f"hub backup: {items:,} items, tried out in a scratch database before it is called a backup")
        laptop.take(Visits(1, seed=8).documents(LATER_CONSULTATIONS))
        nallur.take(Visits(2, seed=8).documents(LATER_CONSULTATIONS))
        for node in (laptop, nallur, laptop, nallur):
            node.sync()
        before = {facility: self.hub_digest(facility) for facility in (FIRST, SECOND)}
        held = self.hub_items()
        self.hub.stop()
        self.hub.run("restore", saved, "--yes")
        self.hub.start()
        say(f"hub restore: {held:,} items became {self.hub_items():,}")
        for name in ("Rampur laptop", "Nallur laptop", "Rampur tablet", "Rampur laptop", "Nallur laptop"):
            self.nodes[name].sync()
        after = {facility: self.hub_digest(facility) for facility in (FIRST, SECOND)}
        hold(after == before, "the hub is not what it was")
        say(f"the nodes send again what the hub lost: {self.hub_items():,} items, and the digests of before")
        self.compare(FIRST, "Rampur laptop", "Rampur tablet")
        self.compare(SECOND, "Nallur laptop")

    def hub_items(self) -> int:
        return sum(int(one["feed_head"]) for one in self.hub.ask("status")["facilities"])

    def pages(self) -> None:
        step(7, "The same in a browser: the centre's pages for the health officer, the hub's for the doctor")
        self.centre = Served.start(self.nodes["Rampur laptop"], self.folder)
        let_in(self.hub, self.doctor)
        with Browser(self.centre.url) as centre:
            centre.send("/unlock", {"name": OFFICER, "passphrase": PASSPHRASE})
            page = centre.get(f"/referrals/{REFERRAL}").text
        hold("Pneumonia" in page and "Dr Kavita Rao" in page, "the centre's page does not show the answer")
        say(f"{OFFICER} unlocks; the referral's page shows the answer, with what the doctor had not seen")
        with signed_in(self.hub, self.doctor) as ward:
            queue = ward.get("/").text
        hold(queue.count("/cases/") >= 1, "the doctor's queue is empty")
        say(f"{self.doctor.name} signs in with a password and a code; the queue stands there, most urgent first")

    def tell_addresses(self) -> None:
        """How to look around."""
        assert self.centre is not None
        print("\nTwo addresses to look around:")
        print(f"   the centre  {self.centre.url}/   unlock as {OFFICER}, with the passphrase: {PASSPHRASE}")
        print(
            f"   the hub     {self.hub.url}/   sign in as {self.doctor.login}, with the password: {self.doctor.password}"
        )
        print(f"               and a code of any authenticator that has the key {self.doctor.secret}")

    def stay(self) -> None:
        """In a terminal: until Ctrl-C, with the code that the doctor's authenticator shows now."""
        print("They stay up until Ctrl-C; then everything is removed.")
        with suppress(KeyboardInterrupt):
            while True:
                print(f"\r   the code now: {self.doctor.code_at(int(time.time()))} ", end="", flush=True)
                time.sleep(1)
        print()

    def close(self) -> None:
        if self.centre is not None:
            self.centre.stop()
        self.hub.stop()

    def compare(self, facility: str, *names: str) -> None:
        """All replicas of a facility and the hub print the same digest."""
        at_hub = self.hub_digest(facility)
        digests = {name: self.nodes[name].ask("status")["digest"] for name in names}
        hold(set(digests.values()) == {at_hub}, f"digests of {facility} differ: hub {at_hub}, {digests}")
        say(f"{facility}: {' and '.join(names)} and the hub print the same digest {at_hub}")

    def hub_digest(self, facility: str) -> str:
        told = self.hub.ask("status", "--facility", facility)
        (found,) = [one for one in told["facilities"] if one["facility"] == facility]
        return str(found["digest"])

    def table(self) -> None:
        table = Table(title="What it took")
        for column in ("node", "records", "changes", "bytes up", "bytes down", "requests", "seconds syncing"):
            table.add_column(column, justify="left" if column == "node" else "right")
        for name, node in self.nodes.items():
            records = node.run("export").count("\n")
            changes = node.run("export", "--changes").count("\n")
            sums = node.totals
            table.add_row(
                name,
                f"{records:,}",
                f"{changes:,}",
                f"{sums.bytes_up:,}",
                f"{sums.bytes_down:,}",
                str(sums.requests),
                f"{sums.seconds:.1f}",
            )
        print()
        Console(width=110).print(table)

    def explore(self) -> None:
        laptop = " ".join(f"{name}='{value}'" for name, value in self.nodes["Rampur laptop"].environment.items())
        at_hub = " ".join(f"{name}='{value}'" for name, value in self.hub.environment.items())
        running = [one.server.pid for one in (self.hub, self.centre) if one is not None and one.server is not None]
        print(f"It goes on running in {self.folder}:")
        print(f"   {laptop} {places.BIN}/hwc status")
        print(f"   {at_hub} {places.BIN}/hub status")
        print(f"   when you are done: kill {' '.join(map(str, running))}; rm -r {self.folder}")


def indented(text: str) -> str:
    return "\n".join(f"      {line}" for line in text.rstrip().splitlines())


PATIENT: Final = "0192f000-0000-7000-8000-000000000001"
CASE: Final = "0192f000-0000-7000-8000-000000000002"
REFERRAL: Final = "0192f000-0000-7000-8000-000000000004"
PNEUMONIA: Final = {"system": "ICD-10", "code": "J18.9", "text": "Pneumonia"}
BRONCHITIS: Final = {"system": "ICD-10", "code": "J20.9", "text": "Acute bronchitis"}
HAND_TYPED: Final[Sequence[dict[str, Any]]] = (
    {
        "kind": "patient",
        "id": PATIENT,
        "fields": {"name": "Savita Bai", "sex": "F", "birth_year": 1979, "village": "Rampur", "phone": "+919812345678"},
    },
    {
        "kind": "case",
        "id": CASE,
        "patient": PATIENT,
        "fields": {
            "complaints": ["breathing difficulty", "fever"],
            "duration_days": 4,
            "history": "सांस फूलना, चार दिन से बुखार",
            "examination": "crackles at the right base, fast breathing",
            "provisional_diagnosis": {"system": "ICD-10", "code": "J22", "text": "Lower respiratory infection"},
        },
    },
    {
        "kind": "vitals",
        "id": "0192f000-0000-7000-8000-000000000003",
        "patient": PATIENT,
        "fields": {"case": CASE, "systolic_mmhg": 92, "diastolic_mmhg": 58, "pulse_bpm": 124, "spo2_percent": 88},
    },
    {
        "kind": "referral",
        "id": REFERRAL,
        "patient": PATIENT,
        "fields": {
            "case": CASE,
            "specialty": "general-medicine",
            "urgency": "emergency",
            "question": "Which antibiotic before the ambulance comes?",
        },
    },
)
ALLERGY_LEARNED_LATER: Final[dict[str, Any]] = {
    "kind": "patient",
    "id": PATIENT,
    "base": "shown",
    "fields": {"allergies": ["penicillin"]},
}
REPLY: Final[dict[str, Any]] = {
    "diagnosis": PNEUMONIA,
    "advice": "Oxygen if you have it; send her to the district hospital as soon as the ambulance is there.",
    "prescription": [
        {"drug": "Amoxicillin 500 mg capsule", "dose": "1 capsule", "route": "oral", "frequency": "1-1-1", "days": 5}
    ],
    "follow_up_days": 3,
    "mode": "video",
    "first": True,
}


def edit(kind: str, record: str, fields: dict[str, Any]) -> dict[str, Any]:
    """A line that edits a record, by somebody who was shown what is there."""
    return {"kind": kind, "id": record, "patient": PATIENT, "base": "shown", "fields": fields}


def main() -> int:
    keep = os.environ.get("KEEP", "") not in ("", "0")
    folder = Path(tempfile.mkdtemp(prefix="health-sync-demo-"))
    folder.chmod(0o711)  # PostgreSQL's own user has to pass through, when this runs as root
    demo = Demo(folder)
    began = time.monotonic()
    status = 1
    try:
        demo.prepare()
        demo.record_offline()
        demo.queue_and_reply()
        demo.answer_arrives()
        demo.conflict()
        demo.node_put_back()
        demo.hub_put_back()
        demo.pages()
        demo.table()
        print(f"\nEvery step held, in {time.monotonic() - began:.0f} s.")
        status = 0
        demo.tell_addresses()
        if keep:
            demo.explore()
        elif sys.stdin.isatty() and sys.stdout.isatty():
            demo.stay()
        else:
            print(
                "They end with this program: in a terminal they stay until Ctrl-C, and with make demo KEEP=1 for good."
            )
    except StepFailed as failed:
        print(f"\nThis did not hold: {failed}", file=sys.stderr)
    except KeyboardInterrupt:
        status = 130
    finally:
        if not (keep and status == 0):
            demo.close()
            if status == 0:
                shutil.rmtree(folder, ignore_errors=True)
            else:
                print(f"What it left is in {folder}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
