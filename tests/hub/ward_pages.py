"""What the tests of the doctors' pages share: a hub with doctors and an officer, patients as a centre sends them."""

from __future__ import annotations

from typing import Any

from hub_server.people import Role
from sync_protocol.change import Change, RecordId
from sync_protocol.documents import id_text, parse_id
from tests.hub.bare_node import BareNode
from tests.hub.hub_world import HubWorld
from tests.hub.paged_hub import PagedHub
from tests.pages.window import Window, hidden

ASHA = {"name": "Asha Devi", "sex": "F", "birth": {"year": 1990, "precision": "year"}, "village": "Rampur"}
ANSWER = {"mode": "text", "first": "yes", "advice": "Fluids and rest."}


def make(url: str, folder: Any) -> PagedHub:
    hub = PagedHub(HubWorld.make(url, folder / "keys"))
    hub.world.facility("HWC1")
    hub.add("rao")
    hub.add("nair")
    hub.add("skin", Role.DOCTOR, "dermatology")
    hub.add("officer", Role.DISTRICT_OFFICER)
    return hub


def send(hub: PagedHub, node: BareNode, *changes: Change) -> None:
    """What a centre wrote, a moment later."""
    hub.world.now_ms += 1_000
    node.stamp = max(node.stamp, hub.world.now_ms << 16)
    hub.world.exchange(node, [node.pack(changes).envelope.raw])
    hub.world.admit()


def refer(
    hub: PagedHub, node: BareNode, patient: dict[str, Any] | None = None, specialty: str = "ent", **more: Any
) -> tuple[str, bytes]:
    """(the referral's id as a path has it, the patient's id)."""
    who = node.write("patient", ASHA | (patient or {}))
    asked = {"specialty": specialty, "urgency": "urgent", "question": "Which drops?"} | more
    about = node.write("referral", asked, patient=who.record)
    send(hub, node, who, about)
    return id_text(about.record), bytes(who.record)


def record(name: str) -> RecordId:
    return RecordId(parse_id(name))


def send_from(window: Window, shown: str, path: str, fields: dict[str, str]) -> Any:
    """Send a form of a page that was not simply shown (a refusal), with what is hidden in it."""
    return window.post(path, {**hidden(shown), **fields})


def line(number: int, drug: str, **more: str) -> dict[str, str]:
    """A line of the prescription's form."""
    parts = {"drug": drug, "dose": "1-0-1", "days": "5"} | more
    return {f"{part}_{number}": text for part, text in parts.items()}


def sign(window: Window, name: str, fields: dict[str, str]) -> Any:
    """Send the reply's form as it stands on the case's page, with these fields filled."""
    return window.send(f"/cases/{name}/reply", fields, page=f"/cases/{name}")
