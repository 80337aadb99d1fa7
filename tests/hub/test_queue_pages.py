"""The queue's page: who has what and since when, duty, whom to call; and the list that is live."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from urllib.parse import quote

import pytest

from hub_server import duty, hospitals, sign_in
from hub_server.web import queueing
from tests.hub.bare_node import BareNode
from tests.hub.paged_hub import PagedHub
from tests.hub.ward_pages import make, refer, send
from tests.pages.window import Window, words

MINUTE_MS = 60_000


@pytest.fixture
def hub(database_url: str, hub_folder: Path) -> PagedHub:
    return make(database_url, hub_folder)


@pytest.fixture
def node(hub: PagedHub) -> BareNode:
    return hub.world.node("HWC1")


def press(window: Window, name: str, action: str, **fields: str) -> str:
    return window.saved(f"/cases/{name}/{action}", fields, page=f"/cases/{name}")


# -- who has it --------------------------------------------------------------------------------------------------------


def test_a_claim_is_a_lock_that_another_doctor_sees_until_it_lapses(hub: PagedHub, node: BareNode) -> None:
    name, _ = refer(hub, node)
    press(hub.window_of("rao"), name, "claim")
    assert "claimed by you" in hub.window_of("rao").shown("/")
    hub.world.now_ms += 25 * MINUTE_MS
    nair = hub.window_of("nair")
    assert "claimed by Name of rao, still since 25 minutes" in nair.shown("/")
    page = nair.get(f"/cases/{name}").text
    assert "Take over" in page
    assert "Sign and send" not in page
    refused = nair.post(f"/cases/{name}/claim", {"csrf": nair.csrf})
    assert (refused.status_code, "E_CLAIMED" in refused.text) == (409, True)
    hub.world.now_ms += 5 * MINUTE_MS
    nair = hub.window_of("nair")
    assert "who has done nothing for 30 minutes: free to take" in nair.shown("/")
    assert "Take over" not in nair.get(f"/cases/{name}").text
    press(nair, name, "claim")
    assert "claimed by Name of nair" in hub.window_of("rao").shown("/")


def test_opening_ones_own_case_keeps_the_claim(hub: PagedHub, node: BareNode) -> None:
    name, _ = refer(hub, node)
    press(hub.window_of("rao"), name, "claim")
    hub.world.now_ms += 25 * MINUTE_MS
    hub.window_of("rao").get(f"/cases/{name}")
    hub.world.now_ms += 10 * MINUTE_MS
    assert "claimed by Name of rao, still since 10 minutes" in hub.window_of("nair").shown("/")


def test_a_long_queue_shows_the_most_urgent_and_more_when_asked(hub: PagedHub, node: BareNode) -> None:
    hub.add("dr.rao")
    for number in range(queueing.ROWS_SHOWN + 1):
        refer(hub, node, urgency="emergency" if number == queueing.ROWS_SHOWN else "routine")
    window = hub.window_of("dr.rao")
    page = window.get("/").text
    assert page.count('class="app-list__item app-list__item--') == queueing.ROWS_SHOWN
    assert page.count("app-list__item--emergency") == 1
    assert 'href="/?rows=50"' in page
    assert 'data-live="/queue/events?rows=25&amp;seen=' in page
    assert "26 referrals wait (the first 25 are shown)" in words(page)
    page = window.get("/?rows=50").text
    assert page.count('class="app-list__item app-list__item--') == queueing.ROWS_SHOWN + 1
    assert "Show more" not in page
    assert "26 referrals wait" in words(page)
    assert "are shown" not in page
    assert 'hx-get="/queue/rows?rows=50"' in page
    assert window.get("/queue/rows?rows=50").text.count("app-list__item--routine") == queueing.ROWS_SHOWN
    for odd in ("x", "-1", "0", "99999999999999999999", "²", ""):
        assert window.get(f"/?rows={quote(odd)}").text.count("app-list__item--emergency") == 1


def test_a_referral_is_given_back_taken_over_and_handed_over_by_name(hub: PagedHub, node: BareNode) -> None:
    name, _ = refer(hub, node)
    rao, nair = hub.window_of("rao"), hub.window_of("nair")
    press(rao, name, "claim")
    assert press(rao, name, "release") == "/"
    press(rao, name, "claim")
    press(nair, name, "claim", take_over="yes")
    assert "claimed by Name of nair" in rao.shown("/")
    assert press(nair, name, "hand-over", to="rao") == "/"
    assert "handed over to you by Name of nair" in rao.shown("/")
    assert "waits for Name of rao, handed over by Name of nair" in nair.shown("/")
    assert "Sign and send" in rao.get(f"/cases/{name}").text
    assert "Sign and send" not in nair.get(f"/cases/{name}").text


def test_the_list_of_who_may_take_it_has_those_on_duty_first(hub: PagedHub, node: BareNode) -> None:
    hub.add("zed")
    hub.add("gone")
    name, _ = refer(hub, node)
    with hub.world.database.transaction() as connection:
        connection.execute("UPDATE person SET disabled_ms = 1 WHERE login = 'gone'")
        now_ms = hub.world.now_ms
        duty.go_on(connection, hub.people["zed"].person, now_ms + 3_600_000, "test", now_ms)
    page = hub.window_of("rao").get(f"/cases/{name}").text
    offered = [part.partition('"')[0] for part in page.split('<option value="')[1:]]
    assert offered == ["zed", "nair"]  # not oneself, no other specialty, nobody who is gone
    nair = hub.window_of("nair")
    refused = nair.post(f"/cases/{name}/hand-over", {"csrf": nair.csrf, "to": "skin"})
    assert (refused.status_code, "E_CANNOT_TAKE" in refused.text) == (422, True)
    assert press(nair, name, "hand-over", to="nobody") == f"/cases/{name}"
    assert "waits for" not in nair.shown("/")


# -- duty --------------------------------------------------------------------------------------------------------------


def test_a_doctor_says_until_when_they_are_on_duty_and_the_queue_says_who_is(hub: PagedHub, node: BareNode) -> None:
    rao = hub.window_of("rao")
    assert "Nobody is on duty." in rao.shown("/")
    assert rao.saved("/duty", {"until": "18:00"}, page="/") == "/"
    shown = rao.shown("/")
    assert "You are on duty until 6:00 pm." in shown
    assert "On duty: Name of rao (until 6:00 pm)" in hub.window_of("nair").shown("/")
    rao.saved("/duty/off", {}, page="/")
    assert "Nobody is on duty." in rao.shown("/")


@pytest.mark.parametrize(("until", "said"), [("", "Say until when"), ("25:99", "A time of day is written like 18:00")])
def test_a_time_that_is_none_is_told_beside_the_field(hub: PagedHub, until: str, said: str) -> None:
    answer = hub.window_of("rao").send("/duty", {"until": until}, page="/")
    assert (answer.status_code, said in words(answer.text), f'value="{until}"' in answer.text or not until) == (
        422,
        True,
        True,
    )


def test_when_nobody_is_on_duty_for_a_specialty_the_queue_says_whom_to_call(hub: PagedHub, node: BareNode) -> None:
    refer(hub, node, specialty="dermatology")
    rao = hub.window_of("rao")
    assert "Nobody is on duty for this: Skin. No number is known to call" in rao.shown("/")
    with hub.world.database.transaction() as connection:
        now_ms = hub.world.now_ms
        duty.set_contact(connection, hospitals.ALL, "dermatology", "Ward 3", "+91 80 2222 1111", "test", now_ms)
    page = rao.get("/").text
    assert "Nobody is on duty for this: Skin. Call Ward 3: +91 80 2222 1111" in words(page)
    assert 'href="tel:+918022221111"' in page
    hub.window_of("skin").saved("/duty", {"until": "23:00"}, page="/")
    assert "Nobody is on duty for this" not in rao.shown("/")


# -- live --------------------------------------------------------------------------------------------------------------


def seen_by(window: Window) -> str:
    """What the open list says that it shows."""
    found = re.search(r'data-live="/queue/events\?rows=\d+&amp;seen=([0-9a-f]{64})"', window.get("/").text)
    assert found is not None
    return found[1]


def listen(hub: PagedHub, window: Window, monkeypatch: pytest.MonkeyPatch, *, then: object, pieces: int) -> list[bytes]:
    """What a list that was opened before is told of what happens ``then``, before it is connected: at most so many
    pieces, fewer where the stream ends."""
    seen = seen_by(window)
    assert callable(then)
    then()
    return heard(hub, window, monkeypatch, seen, pieces)


def heard(hub: PagedHub, window: Window, monkeypatch: pytest.MonkeyPatch, seen: str, pieces: int) -> list[bytes]:
    monkeypatch.setattr(queueing, "LOOK_S", 0.01)
    token = window.client.cookies["hub_session"]

    async def hear() -> list[bytes]:
        stream = queueing.news(hub.app.state.place, token, seen=seen)
        found = []
        async for piece in stream:
            if not piece.startswith(b": "):
                found.append(piece)
            if len(found) == pieces:
                break
        await stream.aclose()  # type: ignore[attr-defined]  # it is a generator
        return found

    return asyncio.run(hear())


def test_an_open_list_is_told_of_what_came_since_it_was_made_and_once(
    hub: PagedHub, node: BareNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    rao = hub.window_of("rao")
    _, told = listen(hub, rao, monkeypatch, then=lambda: refer(hub, node), pieces=2)
    event, name, *_ = told.decode().splitlines()
    assert (event, name) == ("event: changed", f"id: {seen_by(rao)}")
    monkeypatch.setattr(queueing, "LIVE_S", 0.1)
    assert heard(hub, rao, monkeypatch, seen_by(rao), 9) == [b"retry: 5000\n\n"]  # it shows what there is


def test_a_browser_that_connects_anew_is_told_of_what_came_meanwhile(
    hub: PagedHub, node: BareNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queueing, "LOOK_S", 0.01)
    monkeypatch.setattr(queueing, "LIVE_S", 0.02)
    rao = hub.window_of("rao")
    seen = seen_by(rao)
    refer(hub, node)
    now = seen_by(rao)
    for last, told in ((seen, True), (now, False)):
        answer = rao.client.get("/queue/events", params={"seen": seen}, headers={"last-event-id": last})
        assert ("event: changed" in answer.text) is told


def test_an_open_list_is_told_that_a_patient_arrived_or_was_corrected(
    hub: PagedHub, node: BareNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = node.write("patient", {"name": "Asha Devi"})
    referral = node.write("referral", {"specialty": "ent", "urgency": "routine"}, patient=patient.record)
    send(hub, node, referral)
    rao = hub.window_of("rao")
    assert "Patient not arrived yet" in rao.shown("/")
    assert len(listen(hub, rao, monkeypatch, then=lambda: send(hub, node, patient), pieces=2)) == 2
    assert "Asha Devi" in rao.shown("/")


def test_an_open_list_is_told_of_duty_and_of_claims_that_lapsed(
    hub: PagedHub, node: BareNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, _ = refer(hub, node)
    press(hub.window_of("rao"), name, "claim")
    nair = hub.window_of("nair")

    def later() -> None:
        hub.world.now_ms += 10 * MINUTE_MS
        with hub.world.database.transaction() as connection:
            connection.execute("UPDATE referral SET claimed_ms = claimed_ms - %s", (25 * MINUTE_MS,))

    assert len(listen(hub, nair, monkeypatch, then=later, pieces=2)) == 2
    skin = hub.window_of("skin")
    on = lambda: hub.window_of("rao").saved("/duty", {"until": "23:00"}, page="/")
    assert len(listen(hub, skin, monkeypatch, then=on, pieces=2)) == 2


def test_an_open_list_ends_when_its_session_does_and_keeps_none_alive(
    hub: PagedHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    rao = hub.window_of("rao")

    def sign_out() -> None:
        with hub.world.database.transaction() as connection:
            sign_in.end_all(connection)

    assert listen(hub, rao, monkeypatch, then=sign_out, pieces=9) == [b"retry: 5000\n\n"]
    nair = hub.window_of("nair")

    def rest() -> None:
        hub.world.now_ms += sign_in.IDLE_MS + 1

    assert listen(hub, nair, monkeypatch, then=rest, pieces=9) == [b"retry: 5000\n\n"]


def test_whoever_is_on_duty_at_another_hospital_covers_a_centre_that_has_none(hub: PagedHub, node: BareNode) -> None:
    with hub.world.database.transaction() as connection:
        hospitals.add(connection, "NORTH", "North", hub.world.now_ms)
        hospitals.add(connection, "SOUTH", "South", hub.world.now_ms)
    hub.add("north", hub="NORTH")
    hub.add("south", hub="SOUTH")
    refer(hub, node)
    assert "Nobody is on duty for this" in hub.window_of("north").shown("/")
    hub.window_of("south").saved("/duty", {"until": "23:00"}, page="/")
    page = hub.window_of("north").shown("/")
    assert "Nobody is on duty for this" not in page
    assert "Nobody is on duty." in page  # of those whom this doctor works with


def test_what_nobody_covers_is_told_also_where_its_row_is_not_shown(hub: PagedHub, node: BareNode) -> None:
    hub.window_of("rao").saved("/duty", {"until": "23:00", "specialties": "ent"}, page="/")
    for _ in range(queueing.ROWS_SHOWN):
        refer(hub, node, urgency="emergency", specialty="ent")
    refer(hub, node, specialty="dermatology")
    assert "Nobody is on duty for this: Skin." in hub.window_of("rao").shown("/")
