"""A seeded world: two to five nodes and a hub, with everything that can go wrong between them, in memory and virtual time.

The real protocol code runs over simulated disks (`simulated_node`, `simulated_hub`). What happens to it: requests and
answers lost, repeated, reordered, broken at any byte, answered by somebody else; power cuts between any two commits on
both sides; clocks from 1970 to 2098; quarantine and release; bit rot; conflicts and their resolution; several
facilities with shared patients, subscribed and unsubscribed; nodes' disks copied, put back and run twice; the hub put
back from backups. Then the links come up, and after a bounded number of exchanges everything must be where it belongs
(`simulated_laws`). All chance comes from the seed: the same seed gives the same verdicts and states.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from sync_protocol import change as changes
from sync_protocol.canonical import Value
from sync_protocol.change import Change, ChangeId, FacilityCode, PatientId, PersonId, RecordId, RecordKey
from sync_protocol.errors import HealthSyncError
from sync_protocol.keys import Grant
from sync_protocol.schema import URGENCIES, field_of
from tests import simulated_laws as laws
from tests.simulated_disk import Fault, Power, PowerCut
from tests.simulated_hub import Hub, HubDisk
from tests.simulated_laws import Broken
from tests.simulated_node import MAX_TRIES, Node, NodeDisk, Outgoing, Shown

START_MS: Final = 1_700_000_000_000
DAY_MS: Final = 86_400_000
CLOCK_ERRORS_MS: Final = (0, 0, 0, -START_MS, 4_070_908_800_000 - START_MS, 40_000, -3 * DAY_MS)  # 1970 … 2098
RESTART_CHANCE: Final = 0.03  # of a node after each event: its memory is gone, its disk is not
MAX_NODES: Final = 7
MAX_ROUNDS: Final = 40  # of every node syncing once, with the links up: law 8
PORTAL: Final = b"<!DOCTYPE html><title>Sign in to the network</title>"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a world came to. state: hash over its trace and final states; the same for the same seed."""

    seed: int
    problem: str
    state: str
    events: int
    exchanges: int
    trace: tuple[str, ...] = field(repr=False)


@dataclass(slots=True)
class Form:
    """A form that a person has opened and not saved yet."""

    node: Node
    key: RecordKey
    patient: PatientId
    shown: Shown


class World:
    def __init__(self, seed: int, fault: Fault | None = None) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.fault = fault
        self.now_ms = START_MS
        self.trace: list[str] = []
        self.exchanges = 0
        self.rounds = 0
        chance = self.chance
        self.cut_chance = chance.choice((0.0, 0.01, 0.04))
        self.loss_chance = chance.choice((0.0, 0.2, 0.5))
        lies = chance.choice((0.5, 1, 5))  # how often disks are copied and put back
        self.events = (
            [act for act, _ in (*_EVENTS, *_LIES)],
            [weight for _, weight in _EVENTS] + [weight * lies for _, weight in _LIES],
        )
        self.hub = Hub(chance, Power(chance), fault, now_ms=START_MS)
        self.hub.mistaken = chance.random() < 0.4
        facilities = [FacilityCode(f"HWC{at:06}") for at in range(1, chance.choice((1, 1, 2, 2, 3)) + 1)]
        self.nodes: list[Node] = []
        for number in range(1, chance.randint(2, 5) + 1):
            facility = facilities[(number - 1) % len(facilities)]
            node = Node(number, facility, chance, Power(chance, self.cut_chance), fault)
            node.clock_error_ms = chance.choice(CLOCK_ERRORS_MS)
            self.hub.enrol(number, node.id, facility)
            self.nodes.append(node)
        self.hub.power.cut_chance = self.cut_chance
        self.patients: list[PatientId] = []
        self.forms: list[Form] = []
        self.images: dict[int, list[NodeDisk]] = {}  # copies of nodes' disks, by the nodes' numbers
        self.backups: list[HubDisk] = []
        self.lasting: dict[ChangeId, Change] = {}  # what a person was told is saved, and was never lost with a disk
        self.receipts: dict[ChangeId, int] = {}  # the earliest receipts that anybody knew before the links came up
        self.shown: dict[ChangeId, set[ChangeId]] = {}  # what the author of a change had been shown
        self.late: list[list[bytes]] = []  # requests that somebody holds back, to deliver them later or again
        self.answers: list[bytes] = []  # answers that somebody kept, to give them to other requests

    # -- running -------------------------------------------------------------------------------------------------------

    def run(self) -> Verdict:
        problem = ""
        events = self.chance.randint(50, 200)
        try:
            self._begin_alike()
            for _ in range(events):
                self._event()
            self._settle()
            self.check()
        except Broken as broken:
            problem = str(broken)
        told = "\n".join((*self.trace, problem, *self._states()))
        state = hashlib.sha256(told.encode()).hexdigest()
        return Verdict(self.seed, problem, state, events, self.exchanges, tuple(self.trace))

    def _begin_alike(self) -> None:
        """A few good days, so that the centres have something in common to disagree about later."""
        node = self.nodes[0]
        for act in (World._register, World._consult, World._sync, World._admit):
            self._try(act, node)
        if self.patients:
            for facility in self.hub.disk.feeds:
                self._at_hub(partial(self.hub.subscribe, self.patients[0], facility))
        for other in self.nodes:
            self._try(World._sync, other)

    def _states(self) -> list[str]:
        """One line a machine and a feed: where it stands, and a hash over what it holds."""
        disk = self.hub.disk
        kept = "".join(f"{name.hex()} {one.state.value} {one.reason}\n" for name, one in disk.segments.items())
        lines = [f"hub {laws.hash_of(disk.held)} {hashlib.sha256(kept.encode()).hexdigest()}"]
        lines += [f"{node.number} {node.digest:032x} {node.at} {laws.hash_of(node.disk.held)}" for node in self.nodes]
        for facility, feed in self.hub.disk.feeds.items():
            lines.append(f"{facility} {len(feed.items)} {feed.hashes[-1].hex()}")
        return lines

    def _event(self) -> None:
        self.now_ms += self.chance.choice((1, 40, 5_000, 3_600_000, DAY_MS))
        self.hub.now_ms = self.now_ms
        node = self.chance.choice(self.nodes)
        (act,) = self.chance.choices(*self.events)
        self._try(act, node)
        if self.chance.random() < RESTART_CHANCE:
            node.restart()
            self._check_durable()

    def _try(self, act: Callable[[World, Node], None], node: Node) -> None:
        try:
            act(self, node)
        except PowerCut:
            self._tell(f"{act.__name__} {node.number}: power cut")
            self._check_durable()

    def _tell(self, line: str) -> None:
        self.trace.append(f"{self.now_ms - START_MS} {line}")

    # -- people at the centres -----------------------------------------------------------------------------------------

    def _register(self, node: Node) -> None:
        patient = PatientId(self._new_id())
        self.patients.append(patient)
        writes: dict[str, Value] = {"name": f"Person {len(self.patients)}", "sex": self.chance.choice("FM")}
        self._save(node, RecordKey("patient", RecordId(patient)), patient, writes, {})

    def _consult(self, node: Node) -> None:
        """A case, perhaps with vitals and a referral, of a patient that this node may or may not know of."""
        patient = self._patient(node)
        if patient is None:
            return
        case = RecordId(self._new_id())
        complaint = self.chance.choice(("cough", "fever", "pain"))
        writes: dict[str, Value] = {f"complaints/{complaint}": {"present": True}, "plan": self._word()}
        if self.chance.random() < 0.1:
            writes["history"] = self.chance.randbytes(self.chance.randint(400, 3_000)).hex()
        self._save(node, RecordKey("case", case), patient, writes, {})
        if self.chance.random() < 0.5:
            taken: dict[str, Value] = {"case": case, "pulse_bpm": self.chance.randint(40, 180), "temperature_c": 37.5}
            self._save(node, RecordKey("vitals", RecordId(self._new_id())), patient, taken, {})
        if self.chance.random() < 0.5:
            asked: dict[str, Value] = {"case": case, "urgency": self.chance.choice(URGENCIES), "specialty": "medicine"}
            self._save(node, RecordKey("referral", RecordId(self._new_id())), patient, asked, {})

    def _open_form(self, node: Node) -> None:
        keys = [key for key in node.disk.records if key.kind in _EDITABLE]
        if keys:
            key = self.chance.choice(keys[: self.chance.choice((3, len(keys)))])  # often the same few: conflicts
            patient = node.disk.held[node.disk.records[key][0]].change.patient
            self.forms.append(Form(node, key, patient, node.form(key)))

    def _save_form(self, _node: Node) -> None:
        """A form is saved some time after it was opened: what arrived in between was not shown."""
        if not self.forms:
            return
        form = self.forms.pop(self.chance.randrange(len(self.forms)))
        name = self.chance.choice(_EDITABLE[form.key.kind])
        value: Value = {"present": self.chance.random() < 0.7} if "/" in name else self._word()
        if name == "urgency":
            value = self.chance.choice(URGENCIES)
        elif name == "entered_in_error":
            value = {"hidden": True, "shown": sorted({one for names in form.shown.values() for one in names})}
        elif name == "later_field":
            self._newer_program(form)
            return
        self._save(form.node, form.key, form.patient, {name: value}, form.shown)

    def _resolve(self, node: Node) -> None:
        for key in node.disk.records:
            record = node.record(key)
            for name, shown in record.conflicts().items():
                if field_of(key.kind, name) is None:
                    continue  # only a program that knows the field can write it
                writes = {name: shown.live[-1].change.writes[name], "resolution_note": "decided"}
                self._save(node, key, record.patient, writes, {name: shown.names})
                return

    def _newer_program(self, form: Form) -> None:
        """A newer program at the centre writes a field that others do not know."""
        by = form.node.author(form.patient, self._person(), self.now_ms)
        names = {"later_field": list(form.shown.get("later_field", ()))}
        self._keep(form.node, self._make(form.key, form.patient, by.hlc, by.salt, form.node, names), form.shown)

    def _forbidden(self, node: Node) -> None:
        """A faulty node authors a doctor's reply."""
        patient = self._patient(node)
        if patient is not None:
            by = node.author(patient, self._person(), self.now_ms)
            key = RecordKey("reply", RecordId(self._new_id()))
            self._keep(node, self._make(key, patient, by.hlc, by.salt, node, {"advice": []}), {})

    def _make(
        self, key: RecordKey, patient: PatientId, hlc: int, salt: bytes, node: Node, names: dict[str, list[ChangeId]]
    ) -> Change:
        return changes.make(
            kind=key.kind,
            record=key.record,
            patient=patient,
            facility=node.facility,
            node=node.id,
            person=self._person(),
            hlc=hlc,
            after=node.disk.hub_ms,
            salt=salt,
            writes={name: self._word() for name in names},
            supersedes=names,
        )

    def _save(self, node: Node, key: RecordKey, patient: PatientId, writes: dict[str, Value], shown: Shown) -> None:
        self._saved(node, node.save(key, patient, writes, shown, self._person(), self.now_ms), shown)

    def _keep(self, node: Node, change: Change, shown: Shown) -> None:
        node.keep_own(change)
        self._saved(node, change, shown)

    def _saved(self, node: Node, change: Change, shown: Shown) -> None:
        """The person is told that it is saved: from here on it must never be lost."""
        self.lasting[change.id] = change
        node.told.add(change.id)
        self.shown[change.id] = {name for names in shown.values() for name in names}
        self._tell(f"{node.number} saves {change.kind} {change.id.hex()[:8]}")
        unseen = {name for names in change.supersedes.values() for name in names} - self.shown[change.id]
        if unseen:
            raise Broken(f"law 2: {change.id.hex()} supersedes what its author was not shown")

    def _patient(self, node: Node) -> PatientId | None:
        """Mostly one that the node knows; at times one that came with nothing but a card."""
        known = [PatientId(key.record) for key in node.disk.records if key.kind == "patient"]
        choose = self.patients if not known or self.chance.random() < 0.15 else known
        return self.chance.choice(choose) if choose else None

    def _person(self) -> PersonId:
        return PersonId(bytes([self.chance.randint(1, 2)]) * 16)

    def _word(self) -> str:
        return self.chance.choice(("rest", "refer", "fluids", "paracetamol", "दवा"))

    def _new_id(self) -> bytes:
        return self.now_ms.to_bytes(6, "big") + self.chance.randbytes(10)

    # -- the hub -------------------------------------------------------------------------------------------------------

    def _admit(self, _node: Node) -> None:
        self._at_hub(lambda: self.hub.admit(self.chance.choice((1, 3, None))))

    def _doctor(self, _node: Node) -> None:
        """Claims, answers, or changes a claim that a doctor has open."""
        referrals = [key for key in self.hub.disk.records if key.kind == "referral"]
        if not referrals:
            return
        key = self.chance.choice(referrals)
        first = self.hub.disk.held[self.hub.disk.records[key][0]].change
        claims = [
            one
            for one in self.hub.disk.records
            if one.kind == "claim" and self.hub.record(one).view().get("referral") == key.record
        ]
        if claims and self.chance.random() < 0.5:
            record = self.hub.record(claims[0])
            shown = {name: one.names for name in record.fields if (one := record.shown(name)) is not None}
            writes: dict[str, Value] = {"note": self._word()}
            about = claims[0]
        else:
            kind = self.chance.choice(("claim", "reply", "message"))
            about, shown = RecordKey(kind, RecordId(self._new_id())), {}
            writes = {"referral": key.record} | ({"advice": "rest"} if kind == "reply" else {})
            writes |= {"text": "how long?"} if kind == "message" else {}

        def write() -> None:
            change = self.hub.doctor_writes(about, first, writes, shown)
            self._tell(f"doctor writes {change.kind} {change.id.hex()[:8]}")

        self._at_hub(write)

    def _unsubscribe(self, node: Node) -> None:
        if self.patients:
            patient = self.chance.choice(self.patients)
            self._at_hub(lambda: self.hub.unsubscribe(patient, node.facility))

    def _subscribe(self, node: Node) -> None:
        if self.patients:
            patient = self.chance.choice(self.patients)
            self._at_hub(lambda: self.hub.subscribe(patient, node.facility))

    def _release(self, _node: Node) -> None:
        if self.chance.random() < 0.3:
            self.hub.mistaken = False
            self.hub.unreadable.clear()
        self._at_hub(self.hub.release)

    def _misread(self, node: Node) -> None:
        """A change that this hub's program cannot read, with all that stands beside it."""
        pending = node.pending
        if pending:
            self.hub.unreadable.add(self.chance.choice(pending))

    def _lose_grant(self, _node: Node) -> None:
        grants = list(self.hub.disk.grants)
        if grants:
            lost: Grant = self.hub.disk.grants.pop(self.chance.choice(grants))
            self._tell(f"hub loses grant {lost.id.hex()[:8]}")
            self._forget_what_is_lost()

    def _at_hub(self, act: Callable[[], None]) -> None:
        try:
            act()
        except PowerCut:
            self._restart_hub(self.nodes[0])

    def _restart_hub(self, _node: Node) -> None:
        self.hub.restart()
        self._tell("hub: power cut")
        self._check_durable()

    # -- the link ------------------------------------------------------------------------------------------------------

    def _sync(self, node: Node) -> None:
        """One exchange, with whatever the link does to it."""
        if node.revoked:
            return
        self.exchanges += 1
        try:
            outgoing = node.begin(self.now_ms)
            answer = self._carry(b"".join(outgoing.pieces), node)
            self._hear(node, outgoing, answer)
        except PowerCut:
            self._tell(f"{node.number}: power cut")
            node.restart()
            self._check_durable()

    def _carry(self, request: bytes, node: Node) -> bytes | None:
        """The request on its way, and the answer back. None: nothing comes back."""
        chance = self.chance
        bad = chance.random() < self.loss_chance
        fate = (
            chance.choice(("lost", "cut", "held back", "twice", "answer lost", "answer cut", "foreign")) if bad else ""
        )
        if fate in ("lost", "held back"):
            if fate == "held back":
                self.late.append(self._pieces(request))
            self._tell(f"{node.number}: request {fate}")
            return None
        if fate == "cut":
            self._serve(self._pieces(request[: chance.randrange(len(request))]))
            self._tell(f"{node.number}: request cut")
            return None
        if fate == "twice":
            self.late.append(self._pieces(request))
        answer = self._serve(self._pieces(request))
        if answer is not None and chance.random() < 0.2:
            self.answers.append(answer)
        if fate:
            self._tell(f"{node.number}: {fate}")
        if answer is None or fate == "answer lost":
            return None
        if fate == "answer cut":
            return answer[: chance.randrange(len(answer))]
        if fate == "foreign":
            return chance.choice([PORTAL, b"", *self.answers])
        return answer

    def _pieces(self, stream: bytes) -> list[bytes]:
        """As the network brings it: in one piece, or in several."""
        count = self.chance.choice((0, 0, 1, 3))
        cuts = sorted(self.chance.randrange(len(stream) + 1) for _ in range(count))
        return [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]

    def _serve(self, pieces: list[bytes]) -> bytes | None:
        try:
            return self.hub.exchange(pieces)
        except HealthSyncError as error:
            self._tell(f"hub: {error.code}")
        except PowerCut:
            self._restart_hub(self.nodes[0])
        return None

    def _hear(self, node: Node, outgoing: Outgoing, answer: bytes | None) -> None:
        try:
            for piece in self._pieces(answer or b""):
                node.read(outgoing, piece)
            node.finish(outgoing, self.chance.choice((0.1, 2.0, 30.0)))
        except HealthSyncError as error:
            node.broke()
            self._tell(f"{node.number}: {error.code}")
        else:
            self._tell(f"{node.number}: synced to {node.at}, {len(node.disk.unplaced)} left")

    def _deliver_late(self, _node: Node) -> None:
        """A request of long ago arrives, or arrives once more; its answer reaches nobody."""
        if self.late:
            pieces = self.chance.choice(self.late)
            if self.chance.random() < 0.5:
                self.late.remove(pieces)
            self._serve(pieces)

    def _jump_clock(self, node: Node) -> None:
        node.clock_error_ms = self.chance.choice(CLOCK_ERRORS_MS)

    def _renew_grant(self, node: Node) -> None:
        node.renew_grant(self.now_ms)

    def _flaw(self, node: Node) -> None:
        node.flaw = self.chance.choice(("", "", "seal", "signature"))

    def _rot(self, node: Node) -> None:
        """A bit flips in a stored envelope."""
        stored = list(node.disk.envelopes.values())
        if stored:
            one = self.chance.choice(stored)
            at = self.chance.randrange(len(one.sealed.raw))
            raw = one.sealed.raw
            rotten = raw[:at] + bytes([raw[at] ^ 4]) + raw[at + 1 :]
            one.sealed = type(one.sealed)(one.sealed.header, rotten, one.sealed.id)

    def _revoke(self, node: Node) -> None:
        if sum(not one.revoked for one in self.hub.disk.nodes.values()) > 1:
            self._at_hub(lambda: self.hub.revoke(node.id))
            self._tell(f"{node.number} is revoked")
            self._forget_what_is_lost()

    # -- disks that are copied and put back ----------------------------------------------------------------------------

    def _copy(self, node: Node) -> None:
        self.images.setdefault(node.number, []).append(node.disk.copied())

    def _put_back(self, node: Node) -> None:
        images = self.images.get(node.number)
        if images:
            node.put_back(self.chance.choice(images))
            self.forms = [form for form in self.forms if form.node is not node]
            self._tell(f"{node.number} is put back to {node.at}")
            self._forget_what_is_lost()

    def _clone(self, node: Node) -> None:
        if len(self.nodes) < MAX_NODES:
            self.nodes.append(node.clone())
            self._tell(f"{node.number} is two")

    def _back_up_hub(self, _node: Node) -> None:
        self.backups.append(self.hub.disk.copied())

    def _put_hub_back(self, _node: Node) -> None:
        if self.backups:
            self.hub.put_back(self.chance.choice(self.backups))
            for node in self.nodes:
                node.acknowledged.clear()
            self._tell("the hub is put back")
            self._forget_what_is_lost()

    def _forget_what_is_lost(self) -> None:
        """What stood nowhere but on the disk that is gone has to come back from nowhere."""
        there = laws.existing(self.nodes, self.hub)
        self.lasting = {name: change for name, change in self.lasting.items() if name in there}

    # -- the end -------------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """The links come up and the power stays. First with every mistake still there, then with all of them mended."""
        self.loss_chance = self.hub.power.cut_chance = 0.0
        for node in self.nodes:
            node.power.cut_chance = 0.0
        for pieces in self.late:
            self._serve(pieces)
        self.late.clear()
        self.receipts = laws.known_receipts(self.nodes, self.hub)
        self._until_quiet("with its mistakes")
        for node in self.nodes:
            node.flaw = ""
        self.hub.mistaken = False
        self.hub.unreadable.clear()
        self.hub.release()
        for node in self.nodes:
            if not node.revoked:
                node.try_again()
        self._until_quiet("mended")

    def _until_quiet(self, how: str) -> None:
        """Law 8: progress in a bounded number of exchanges, and no refused bytes sent more than three times."""
        for _ in range(MAX_ROUNDS):
            self.now_ms += 1_000
            self.hub.now_ms = self.now_ms
            for node in self.nodes:
                self._sync(node)
            self.hub.admit()
            if all(self._is_quiet(node) for node in self.nodes):
                break
        else:
            restless = [node.number for node in self.nodes if not self._is_quiet(node)]
            raise Broken(f"law 8: nodes {restless} do not come to rest, {how}")
        for node in self.nodes:
            if max(node.sent_times.values(), default=0) > MAX_TRIES:
                raise Broken(f"law 8: node {node.number} sent the same bytes more than {MAX_TRIES} times")
            if max(node.disk.attempts.values(), default=0) > MAX_TRIES:
                raise Broken(f"law 8: a change of node {node.number} was refused more than {MAX_TRIES} times")

    def _is_quiet(self, node: Node) -> bool:
        at_head = node.at == len(self.hub.disk.feeds[node.facility].items)
        return node.revoked or (at_head and not node.pending and not node.disk.envelopes and not node.alone)

    def _check_durable(self) -> None:
        """Law 3, at any moment: what a person was told is saved is here; what a node was told is held is at the hub."""
        laws.check_durable(self.nodes, self.hub)

    def check(self) -> None:
        """All laws that can be seen from the machines' disks, with everything at rest."""
        self._check_durable()
        laws.check_admitted(self.nodes, self.hub, self.lasting)
        laws.check_receipts(self.hub, self.receipts)
        laws.check_ledger(self.hub)
        laws.check_feeds(self.nodes, self.hub)


_EDITABLE: Final[dict[str, tuple[str, ...]]] = {
    "patient": ("name", "name", "phone", "allergies/penicillin", "allergies/latex", "later_field"),
    "case": ("plan", "plan", "complaints/cough", "entered_in_error", "later_field"),
    "referral": ("urgency", "reason", "question"),
}

_EVENTS: Final[tuple[tuple[Callable[[World, Node], None], float], ...]] = (
    (World._sync, 30),
    (World._register, 2),
    (World._consult, 6),
    (World._open_form, 18),
    (World._save_form, 18),
    (World._resolve, 4),
    (World._forbidden, 1),
    (World._admit, 10),
    (World._doctor, 5),
    (World._subscribe, 2),
    (World._release, 2),
    (World._misread, 1),
    (World._lose_grant, 1),
    (World._deliver_late, 3),
    (World._jump_clock, 1),
    (World._renew_grant, 1),
    (World._flaw, 1),
    (World._rot, 2),
    (World._restart_hub, 2),
    (World._revoke, 0.3),
    (World._unsubscribe, 1),
)

_LIES: Final[tuple[tuple[Callable[[World, Node], None], float], ...]] = (
    (World._copy, 2),
    (World._put_back, 1.5),
    (World._clone, 0.3),
    (World._back_up_hub, 1),
    (World._put_hub_back, 1),
)


def simulate(seed: int, fault: Fault | None = None) -> Verdict:
    """One world, from its seed."""
    return World(seed, fault).run()
