"""Hostile text where a doctor types it or decides on it, and what the pages keep of a patient between two of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.routing import APIRoute

from hub_server import web
from sync_protocol.documents import id_text
from sync_protocol.pages.components import Components
from tests.hub.bare_node import BareNode
from tests.hub.paged_hub import PagedHub
from tests.hub.test_case_pages import HOSTILE, Elements, hostile
from tests.hub.ward_pages import ANSWER, line, make, record, refer, send, send_from, sign
from tests.pages.window import Window

CLUSTER = "👩🏽\u200d⚕️𐍈"
TYPED = f"=1+1{HOSTILE}{CLUSTER}".replace("\u0000", "")
MARK = "Zubeida-of-the-well"
OUTSIDE = ("/sign-in", "/sign-in/code", "/sign-in/set-up", "/queue/events")


@pytest.fixture
def hub(database_url: str, tmp_path: Path) -> PagedHub:
    return make(database_url, tmp_path)


@pytest.fixture
def node(hub: PagedHub) -> BareNode:
    return hub.world.node("HWC1")


@pytest.fixture
def rao(hub: PagedHub) -> Window:
    return hub.window_of("rao")


def inert(page: str) -> Elements:
    """A page whose hostile text is text: nothing of it runs, and nothing turns what stands beside it."""
    read = Elements()
    read.feed(page)
    assert not [one for one in (read.text, *read.attributes) if "\u202e" in one and one not in read.typed]
    assert [name for name in read.names if name.startswith("on") or name == "style"] == []
    assert read.scripts <= 2
    assert read.images == 0
    assert "7006652" not in page
    return read


def disputed(hub: PagedHub, node: BareNode, name: str, patient: bytes, *texts: str) -> str:
    """A message that says several things, as it was written at two places; its decision's path."""
    message = node.write("message", {"referral": record(name), "text": texts[0]}, patient=patient)
    rest = [node.write("message", {"text": text}, record=message.record, patient=patient) for text in texts[1:]]
    send(hub, node, message, *rest)
    return f"/conflicts/message/{id_text(message.record)}"


def test_hostile_text_in_a_prescription_and_in_a_corrections_reason_is_inert(
    hub: PagedHub, node: BareNode, rao: Window
) -> None:
    allergic = {"allergies/penicillin": {"present": True, "details": {"text": "Penicillin"}}}
    name, _ = refer(hub, node, allergic)
    parts = ("form", "strength", "dose", "route", "frequency", "advice", "allergy_reason")
    texts = {part: f"{part} {TYPED}" for part in parts}
    answer = ANSWER | line(1, "Amoxicillin 500 mg", **texts) | {"mode": "video"}
    refused = sign(rao, name, answer | {"days_1": TYPED})
    assert refused.status_code == 422
    inert(refused.text)
    assert sign(rao, name, answer).status_code == 303
    assert sign(rao, name, answer | {"correction_reason": TYPED}).status_code == 303
    read = inert(rao.get(f"/cases/{name}").text)
    for part in (*parts, "corrects:"):
        said = read.text[read.text.index(f"{part} =1+1<script>alert(1)</script>\ufffd") :]
        assert CLUSTER in said[: len(part) + len(TYPED) + 1], part


def test_a_hostile_reason_to_open_a_patient_is_inert_where_it_is_reviewed(hub: PagedHub, node: BareNode) -> None:
    name, _ = refer(hub, node)
    skin, officer = hub.window_of("skin"), hub.window_of("officer")
    refused = skin.get(f"/cases/{name}").text
    assert send_from(skin, refused, f"/cases/{name}/open", {"reason": TYPED}).status_code == 303
    read = inert(officer.get("/openings").text)
    assert "=1+1<script>alert(1)</script>" in read.text
    assert CLUSTER in read.text


def test_hostile_values_are_inert_where_a_doctor_decides_between_them(
    hub: PagedHub, node: BareNode, rao: Window
) -> None:
    name, patient = refer(hub, node)
    ours = disputed(hub, node, name, patient, f"{TYPED} 1", f"{TYPED} 2")
    rivals = [node.write("patient", hostile("patient") | {"name": f"{TYPED} {at}"}, record=patient) for at in (3, 4)]
    send(hub, node, *rivals)
    for path, values in ((ours, "12"), (f"/conflicts/patient/{id_text(patient)}", "34")):
        read = inert(rao.get(path).text)
        for value in values:
            assert f"{CLUSTER} {value}" in read.text, path
        assert ("What is to hold?" in read.text) is (path == ours)
        inert(rao.send(path, {"take": TYPED, "note": TYPED}).text)


def test_no_text_of_a_patient_is_kept_with_the_drawings_of_the_pages(
    hub: PagedHub, node: BareNode, rao: Window
) -> None:
    details = {"present": True, "details": {"text": MARK}}
    texts = dict.fromkeys(("name", "village", "guardian", "address"), MARK)
    name, patient = refer(hub, node, texts | {"allergies/penicillin": details}, reason=MARK, question=MARK)
    send(hub, node, node.write("case", {"history": MARK, "plan": MARK}, patient=patient))
    path = disputed(hub, node, name, patient, f"{MARK} 1", f"{MARK} 2")
    kind, conflict = path.split("/")[2:]
    fields = ANSWER | line(1, "Amoxicillin 500 mg", advice=MARK, days=MARK) | {"advice": MARK, "diagnosis": MARK}
    answers = [sign(rao, name, fields), rao.send(f"/cases/{name}/reply", fields | {"draft": "yes"}, f"/cases/{name}")]
    answers.append(rao.send(path, {"take": MARK, "note": MARK}))
    skin = hub.window_of("skin")
    closed = skin.get(f"/cases/{name}").text
    answers.append(send_from(skin, closed, f"/cases/{name}/open", {"reason": f"{MARK} " * 500}))
    for part in web.PARTS:
        for route in part.router.routes:
            if isinstance(route, APIRoute) and "GET" in (route.methods or ()) and route.path not in OUTSIDE:
                shown = route.path.replace("{kind}/{name}", f"{kind}/{conflict}").replace("{name}", name)
                answers += [hub.window_of(login).get(shown) for login in ("rao", "officer")]
    assert sum(MARK in answer.text for answer in answers) >= 6, "the pages show it"
    kept = hub.app.state.renderer._environment.globals["component"]
    assert isinstance(kept, Components)
    assert kept._drawn
    assert MARK not in repr(kept._drawn)
