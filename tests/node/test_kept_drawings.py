"""What the centre's pages keep of their components to draw them quicker: nothing of a patient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi.routing import APIRoute

from hwc_node import web
from sync_protocol import exports
from sync_protocol.change import RecordKey
from sync_protocol.documents import id_text
from sync_protocol.pages.components import Components
from tests.node.enrolled_home import NOW_MS, arrive
from tests.node.paged_centre import Centre
from tests.node.referred import CASE, Referred

MARK = "Zubeida-of-the-well"
OUTSIDE = {"/unlock", "/certificate"}


def planted(store: Any) -> Referred:
    """A patient, a visit, a referral and an answer with the mark wherever text can stand, and two fields in conflict."""
    details = {"present": True, "details": {"text": MARK}}
    texts = dict.fromkeys(("name", "village", "guardian", "address", "phone"), MARK)
    one = Referred.make(store, **texts, **{f"allergies/{MARK}": details, f"chronic_conditions/{MARK}": details})
    one.answered(advice=MARK, diagnosis={"text": MARK}, refer_onward=MARK)
    patient, before_ms = one.patient, NOW_MS - 1_000
    arrive(store, "patient", {"name": f"{MARK} Devi"}, 6, record=patient, patient=patient, now_ms=before_ms)
    rival = {"examination": f"{MARK} Bai", "plan": MARK, f"complaints/{MARK}": details} | {"at": CASE["at"]}
    arrive(store, "case", rival, 7, record=one.case.record, patient=patient, now_ms=before_ms)
    return one


def paths(one: Referred) -> list[str]:
    """Every page that is asked for, with ids of what is there."""
    patient, found = id_text(one.patient), []
    for part in web.PARTS:
        for route in part.router.routes:
            if isinstance(route, APIRoute) and "GET" in (route.methods or ()) and route.path not in OUTSIDE:
                path = route.path.replace("{name}", one.name if route.path.startswith("/referrals") else patient)
                path = path.replace("{kind}/{record}/error", f"vitals/{id_text(one.vitals.record)}/error")
                path = path.replace("vitals/{record}", f"vitals/{id_text(one.vitals.record)}")
                found.append(path.replace("{case}", id_text(one.case.record)))
    keys = ((RecordKey("patient", one.patient), "name"), (one.case, "examination"))  # type: ignore[arg-type]
    decisions = [f"/decisions/{exports.conflict_id(key, field)}" for key, field in keys]
    return [path for path in found if "{" not in path] + decisions


def test_no_text_of_a_patient_is_kept_with_the_drawings(tmp_path: Path) -> None:
    centre = Centre.begin(tmp_path)
    window = centre.window_of()
    one = planted(centre.store)
    shown = [answer.text for path in paths(one) if (answer := window.get(path)).status_code == 200]
    assert sum(MARK in page for page in shown) > 10, "the pages show it"
    refused = 0
    for path in paths(one):
        fields = dict.fromkeys(("name", "plan", "history", "reason", "question", "other", "note", "village"), MARK)
        sent = {"csrf": window.csrf, "typed": MARK, "age": MARK, "temperature_c": MARK, "sex": MARK, **fields}
        refused += MARK in window.post(path, sent).text
    assert refused > 5, "and again what was typed"
    kept = centre.app.state.renderer._environment.globals["component"]
    assert isinstance(kept, Components)
    assert kept._drawn
    assert MARK not in repr(kept._drawn)
