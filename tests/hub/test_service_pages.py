"""The service in numbers, the states, the centres, what waits for a person: who sees it, and that it says what is so."""

from __future__ import annotations

import csv
import io
import os
import re
from pathlib import Path

import psycopg
import pytest

from hub_server import dashboards, stats, tallies
from hub_server.consults import Correction
from hub_server.people import Role
from hub_server.stats import By, Sums, Wanted
from hub_server.store import Entry
from hub_server.tallies import DAY_MS
from hub_server.web.service import MOST_CENTRES, ROWS_A_PAGE, ranking
from sync_protocol.change import FacilityCode, RecordKey
from sync_protocol.documents import id_text
from sync_protocol.schema import Writer
from sync_protocol.states import STATES
from tests.hub.bare_node import BareNode
from tests.hub.paged_hub import PagedHub
from tests.hub.test_consults import ANSWER, Ward
from tests.hub.ward_pages import ASHA, make, record, refer, send
from tests.pages.window import Window, words

HOSTILE = "<script>alert(1)</script>"
FORMULA = '=HYPERLINK("http://evil.example","x")'
ALL_PAGES = (
    "/service",
    "/service?by=district",
    "/service?by=facility",
    "/service?by=day",
    "/states",
    "/centres",
    "/quarantine",
    "/conflicts",
)
SHEETS = ("/service/sheet", "/states/sheet", "/centres/sheet", "/quarantine/sheet", "/conflicts/sheet")


@pytest.fixture
def hub(database_url: str, tmp_path: Path) -> PagedHub:
    made = make(database_url, tmp_path)
    made.world.facility("HWC2", "Sehore", "MADHYA PRADESH")
    made.world.facility("HWC3", "Madurai", "Tamil Nadu")
    made.add("operator", Role.OPERATOR)
    return made


@pytest.fixture
def officer(hub: PagedHub) -> Window:
    return hub.window_of("officer")


def counted(hub: PagedHub) -> None:
    tallies.settle(hub.world.database)


def visit(hub: PagedHub, node: BareNode, name: str = "Asha Devi") -> str:
    who = node.write("patient", ASHA | {"name": name})
    case = node.write("case", {"history": "fever"}, patient=who.record)
    about = node.write("referral", {"specialty": "ent", "urgency": "urgent"}, patient=who.record)
    send(hub, node, who, case, about)
    return id_text(about.record)


def sheet_of(window: Window, path: str) -> list[list[str]]:
    answer = window.get(path)
    assert answer.status_code == 200, path
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert re.fullmatch(r'attachment; filename="[a-z-]+\.csv"', answer.headers["content-disposition"])
    return list(csv.reader(io.StringIO(answer.content.decode("utf-8-sig"))))


def table(page: str) -> list[list[str]]:
    """The rows of a page's table, as people read them."""
    body = page.partition("<tbody>")[2].partition("</tbody>")[0]
    return [
        [words(cell).strip() for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)]
        for row in re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
    ]


# -- who -------------------------------------------------------------------------------------------------------------


def test_an_officer_and_an_operator_see_everything_and_a_doctor_only_their_own(hub: PagedHub) -> None:
    for login in ("officer", "operator"):
        window = hub.window_of(login)
        for path in (*ALL_PAGES, *SHEETS):
            assert window.get(path).status_code == 200, (login, path)
    doctor = hub.window_of("rao")
    for path in ("/states", "/centres", "/quarantine", *SHEETS):
        assert doctor.get(path).status_code == 403, path
    assert "Your numbers" in doctor.shown("/service")
    assert "Sehore" not in doctor.get("/service?by=district").text


def test_where_nothing_is_there_each_page_says_so(hub: PagedHub, officer: Window) -> None:
    with hub.world.database.transaction() as connection:
        connection.execute("DELETE FROM facility")
    for path in (*ALL_PAGES, *SHEETS):
        assert officer.get(path).status_code == 200, path
    assert "Nothing in this time" in officer.shown("/service")
    assert "No such centre" in officer.shown("/centres")
    assert "Nothing waits" in officer.shown("/quarantine")
    assert "Nothing is in conflict" in officer.shown("/conflicts")
    assert "Nothing in this time" in hub.window_of("rao").shown("/service")
    assert len(table(officer.get("/states").text)) == 36


@pytest.mark.parametrize(
    "asked",
    [
        "by=x&days=-1&page=0",
        "by=facility&days=99999999999999999999&page=99999999999999",
        "days=٣&page=²",
        "state=&district=",
        "state=%00&district=%00",
        "district=Sehore",
        "state=" + "x" * 5_000,
        "measure=__class__&days=7",
        "silence=sometimes",
    ],
)
def test_an_odd_address_is_a_page_like_another(hub: PagedHub, officer: Window, asked: str) -> None:
    for path in ("/service", "/states", "/centres", "/quarantine", "/conflicts", "/service/sheet", "/centres/sheet"):
        assert officer.get(f"{path}?{asked}").status_code == 200, path


# -- the service -----------------------------------------------------------------------------------------------------


def test_the_numbers_are_those_that_are_kept_and_lead_from_state_to_district_to_centre(
    hub: PagedHub, officer: Window
) -> None:
    near, far = hub.world.node("HWC2"), hub.world.node("HWC3")
    names = [visit(hub, near), visit(hub, near), visit(hub, far)]
    ward = Ward(hub.world, {login: one.person for login, one in hub.people.items()})
    ward.reply("rao", record(names[0]))
    counted(hub)
    states = table(officer.get("/service?days=7").text)
    assert [row[0] for row in states] == ["Madhya Pradesh", "Tamil Nadu"]
    assert [(row[1], row[2], row[3], row[8], row[9]) for row in states] == [
        ("2", "2", "1", "1", "1"),
        ("1", "1", "0", "0", "1"),
    ]
    page = officer.get("/service?days=7").text
    (link,) = re.findall(r'href="([^"]+)">Madhya Pradesh<', page)
    districts = officer.get(link.replace("&amp;", "&")).text
    assert [row[:2] for row in table(districts)] == [["Sehore", "2"]]
    (link,) = re.findall(r'href="([^"]+)">Sehore<', districts)
    assert [row[:2] for row in table(officer.get(link.replace("&amp;", "&")).text)] == [["HWC2", "2"]]
    assert "3 Referrals 3 Answered 1" in officer.shown("/service?days=7")
    assert table(officer.get("/service?by=day&days=7").text)[0][1] == "3"


def test_a_sheet_has_the_pages_rows_as_numbers(hub: PagedHub, officer: Window) -> None:
    visit(hub, hub.world.node("HWC2"))
    counted(hub)
    heads, *rows = sheet_of(officer, "/service/sheet?by=facility&days=7")
    assert len(heads) == len(rows[0]) == 13
    assert rows[0][:7] == ["Madhya Pradesh", "Sehore", "HWC2", "", "1", "1", "0"]
    (day,) = sheet_of(officer, "/service/sheet?by=day&days=7")[1:]
    assert day[3] == stats.date_of(tallies.day_of(hub.world.now_ms)).isoformat()


def test_a_long_list_comes_in_pages_and_is_whole_as_a_sheet(hub: PagedHub, officer: Window) -> None:
    many = ROWS_A_PAGE + 5
    for at in range(many):
        hub.world.facility(f"CENTRE{at:03}", f"District {at:03}", "Kerala")
    day = tallies.day_of(hub.world.now_ms)
    with hub.world.database.transaction() as connection:
        connection.execute(
            "INSERT INTO place_day (level, state, district, day, consultations) SELECT 2, state, district, %s, 1"
            " FROM facility WHERE state = 'Kerala'",
            (day,),
        )
    first, second = (officer.get(f"/service?by=district&days=7&page={page}").text for page in (1, 2))
    names = [row[0].removesuffix(" Kerala") for page in (first, second) for row in table(page)]
    assert names == [f"District {at:03}" for at in range(many)]
    assert "Page 1 of 2" in words(first)
    assert "page=2" in first and "page=1" in second
    assert len(sheet_of(officer, "/service/sheet?by=district&days=7")) == many + 1


def test_where_there_are_many_centres_one_looks_into_a_district_first(hub: PagedHub, officer: Window) -> None:
    assert "by=facility" in officer.get("/service").text
    with hub.world.database.transaction() as connection:
        connection.execute(
            "INSERT INTO facility (facility, name, district, state, created_ms, wrapped_key)"
            " SELECT 'C' || n, 'x', 'Agra', 'Uttar Pradesh', 0, '' FROM generate_series(1, %s) n",
            (MOST_CENTRES,),
        )
    assert "by=facility" not in officer.get("/service").text
    assert "by=facility" in officer.get("/service?state=Uttar+Pradesh&district=Agra").text
    assert "by=facility" in officer.get("/service?state=Tamil+Nadu").text


def test_hostile_names_of_places_are_inert_in_pages_and_sheets(hub: PagedHub, officer: Window) -> None:
    hub.world.facility("HWC4", FORMULA, HOSTILE)
    hub.world.facility("HWC5", HOSTILE, "50%(x)s {{ 1234*5678 }}")
    for code in ("HWC4", "HWC5"):
        visit(hub, hub.world.node(code))
    with hub.world.database.transaction() as connection:
        connection.execute("UPDATE facility SET name = %s", (f"{FORMULA}{HOSTILE}\u202etxt",))
    counted(hub)
    for path in (*ALL_PAGES, "/service?by=district&state=%3Cscript%3E", f"/centres?state={HOSTILE}&district={FORMULA}"):
        answer = officer.get(path)
        assert answer.status_code == 200, path
        assert "<script>alert" not in answer.text, path
        assert not re.search("7,?00,?6,?652", answer.text), path
        assert "\u202e" not in answer.text, path
    for path in ("/service/sheet?by=district", "/centres/sheet", "/states/sheet"):
        cells = [cell for row in sheet_of(officer, path) for cell in row]
        assert not [cell for cell in cells if re.match(r"[\s]*[=+\-@]", cell) and not re.fullmatch(r"-?[0-9.]+", cell)]


def test_the_share_answered_within_the_day_is_of_the_referrals_on_every_page(hub: PagedHub, officer: Window) -> None:
    node = hub.world.node("HWC2")
    names = [visit(hub, node) for _ in range(5)]
    ward = Ward(hub.world, {login: one.person for login, one in hub.people.items()})
    for name in names[:2]:
        ward.reply("rao", record(name))
    counted(hub)
    shown = officer.shown("/service?days=7")
    assert "Within the hour, of the referrals 2 (40 %)" in shown
    assert "Within the day, of the referrals 2 (40 %)" in shown
    league = officer.get("/states?measure=within_day&days=7").text
    assert "Answered within the day, of 100 referrals" in words(league)
    assert table(league)[0][-1] == "40"


# -- a doctor's own --------------------------------------------------------------------------------------------------


def test_a_doctor_sees_what_they_did_themselves(hub: PagedHub) -> None:
    node = hub.world.node("HWC2")
    ward = Ward(hub.world, {login: one.person for login, one in hub.people.items()})
    for at in range(3):
        ward.reply("rao", record(visit(hub, node)))
        hub.world.now_ms += at * DAY_MS
    ward.claim("nair", record(visit(hub, node)))
    shown = hub.window_of("rao").shown("/service?days=30")
    assert "Referrals answered 3" in shown
    assert len(table(hub.window_of("rao").get("/service?days=30").text)) == 2
    assert "Referrals answered 0" in hub.window_of("nair").shown("/service?days=30")
    with hub.world.database.transaction() as connection:
        own = stats.of_doctor(connection, hub.people["rao"].person, Wanted(0, tallies.day_of(hub.world.now_ms)))
    assert (len(own.waits_ms), sum(one.answered for one in own.days)) == (3, 3)
    assert [one.day for one in own.days] == sorted({one.day for one in own.days}, reverse=True)


def test_a_correction_is_no_referral_answered_whoever_wrote_the_answer(hub: PagedHub) -> None:
    node = hub.world.node("HWC2")
    ward = Ward(hub.world, {login: one.person for login, one in hub.people.items()})
    own, others = record(visit(hub, node)), record(visit(hub, node))
    first = [ward.reply("rao", own), ward.reply("nair", others)]
    hub.world.now_ms += 8 * DAY_MS
    for name, one in zip((own, others), first, strict=True):
        assert one.record is not None
        ward.reply("rao", name, ANSWER | {"advice": "Half of it."}, correction=Correction(one.record, "wrong dose"))
    shown = hub.window_of("rao").shown("/service?days=7")
    assert "Referrals answered 0" in shown
    assert table(hub.window_of("rao").get("/service?days=7").text)[0][1] == "2", "answers and corrections"
    assert "Referrals answered 1 Within the hour 1" in hub.window_of("rao").shown("/service?days=30")


# -- the states ------------------------------------------------------------------------------------------------------


def test_the_league_ranks_all_36_and_its_map_says_the_same(hub: PagedHub, officer: Window) -> None:
    node = hub.world.node("HWC2")
    for _ in range(3):
        visit(hub, node)
    visit(hub, hub.world.node("HWC3"))
    counted(hub)
    page = officer.get("/states").text
    rows = table(page)
    assert len(rows) == 36
    assert rows[:2] == [["1", "Madhya Pradesh MP", "3", "75.0 %"], ["2", "Tamil Nadu TN", "1", "25.0 %"]]
    tiles = re.findall(
        r'<li class="app-tile-map__tile ([^"]+)"><a href="([^"]+)" title="([^"]+)">(\w\w)<br>([^<]+)<', page
    )
    assert {letters: number for _, _, _, letters, number in tiles} == {row[1][-2:]: row[2] for row in rows}
    levels = {letters: classes[-1] for classes, _, _, letters, _ in tiles}
    assert (levels["MP"], levels["TN"], levels["KL"]) == ("4", "2", "0")
    link = next(href for _, href, title, _, _ in tiles if title == "Madhya Pradesh").replace("&amp;", "&")
    assert [row[0] for row in table(officer.get(link).text)] == ["Sehore"]
    assert sheet_of(officer, "/states/sheet")[1] == ["1", "Madhya Pradesh", "23", "3", "75"]
    assert [row[2] for row in table(officer.get("/states?measure=open").text)][:2] == ["3", "1"]


def test_a_ranking_has_everybody_once_the_most_first_and_shares_that_make_a_whole() -> None:
    sums = {one.name: Sums(consultations=one.lgd % 5 * 10, referrals=7, within_day=one.lgd % 8) for one in STATES}
    sums["Erehwon"] = Sums(consultations=3)
    for measure in ("consultations", "referrals", "open", "within_day"):
        found = ranking(sums, measure)
        assert sorted(one.name for one in found) == sorted([*(one.name for one in STATES), "Erehwon"])
        numbers = [one.number for one in found]
        assert numbers == sorted(numbers, reverse=True)
        assert [one.rank for one in found] == list(range(1, 38))
        assert all((one.level == 0) == (one.number == 0) for one in found)
        assert [one.level for one in found] == sorted((one.level for one in found), reverse=True)
        shares = [one.share for one in found if one.share is not None]
        assert not shares or abs(sum(shares) - 100) < 2
    assert {one.state for one in ranking(sums, "open") if one.name == "Erehwon"} == {None}


# -- centres ---------------------------------------------------------------------------------------------------------


def silent(hub: PagedHub, code: str, days: float | None) -> None:
    with hub.world.database.transaction() as connection:
        seen_ms = None if days is None else hub.world.now_ms - int(days * DAY_MS)
        connection.execute("UPDATE node SET last_seen_ms = %s WHERE facility = %s", (seen_ms, code))


def test_centres_are_listed_by_how_long_they_were_silent(hub: PagedHub, officer: Window) -> None:
    for code, days in (("HWC1", 0.5), ("HWC2", 2), ("HWC3", 8)):
        hub.world.node(code)
        silent(hub, code, days)
    hub.world.facility("HWC4", "Madurai", "Tamil Nadu")

    def codes(asked: str) -> list[str]:
        return re.findall(r"HWC\d\b(?=</span></th>)", officer.get(f"/centres?{asked}").text)

    assert codes("") == ["HWC3", "HWC2", "HWC1", "HWC4"], "the longest first, who was never in touch at the end"
    assert codes("silence=day") == ["HWC3", "HWC2"]
    assert codes("silence=three_days") == codes("silence=week") == ["HWC3"]
    assert codes("silence=never") == ["HWC4"]
    assert codes("state=Tamil+Nadu") == ["HWC3", "HWC4"]
    assert codes("state=Tamil+Nadu&district=Madurai&silence=week") == ["HWC3"]
    assert codes("state=Kerala") == []
    shown = officer.shown("/centres")
    assert "Silent for a day (2)" in shown
    assert "Never in touch (1)" in shown
    rows = sheet_of(officer, "/centres/sheet?silence=day")[1:]
    assert [(row[0], row[5]) for row in rows] == [("HWC3", "8"), ("HWC2", "2")]


def test_a_revoked_device_does_not_speak_for_its_centre(hub: PagedHub, officer: Window) -> None:
    hub.world.node("HWC2")
    silent(hub, "HWC2", 0)
    with hub.world.database.transaction() as connection:
        connection.execute("UPDATE node SET revoked_ms = 1")
    assert "Never in touch (3)" in officer.shown("/centres")


# -- what waits for a person -----------------------------------------------------------------------------------------


def test_what_was_not_admitted_is_listed_with_why_and_what_to_do_and_never_what_is_in_it(
    hub: PagedHub, officer: Window
) -> None:
    node = hub.world.node("HWC2")
    send(hub, node, node.write("reply", {"referral": b"r" * 16, "advice": "Savitri"}, writer=Writer.DOCTOR))
    with hub.world.database.transaction() as connection:
        connection.execute(
            "INSERT INTO quarantine (facility, node, segment, row, kind, reason, at_ms, verdict)"
            " VALUES ('HWC2', '', '', -1, '', 'E_SOMETHING_NEW', %s, 'open')",
            (hub.world.now_ms,),
        )
    rows = table(officer.get("/quarantine").text)
    assert len(rows) == 2
    assert "E_NOT_ALLOWED" in rows[0][3] and "only a doctor" in rows[0][3]
    assert "Do not release it" in rows[0][5]
    assert "E_SOMETHING_NEW" in rows[1][3] and "could not be read" in rows[1][3]
    assert "Savitri" not in officer.get("/quarantine").text
    assert [row[1] for row in sheet_of(officer, "/quarantine/sheet")[1:]] == ["HWC2", "HWC2"]
    assert "Could not be admitted 2" in words(officer.get("/centres").text) or table(officer.get("/centres").text)


def conflict_of_a_claim(hub: PagedHub) -> tuple[str, str, str]:
    """(the claim, the referral it was for, another one) of a claim that two doctors' hubs wrote unseen by each other."""
    node = hub.world.node("HWC2")
    first, second = visit(hub, node), visit(hub, node, "Meena Devi")
    ward = Ward(hub.world, {login: one.person for login, one in hub.people.items()})
    done = ward.claim("rao", record(first))
    assert done.record is not None
    patient = ward.chart(record(first)).patient
    hub.world.store.write(
        FacilityCode("HWC2"),
        [Entry(RecordKey("claim", done.record), patient, {"referral": record(second)})],
        person=hub.people["nair"].person.id,
        writer=Writer.DOCTOR,
        now_ms=ward.tick(),
    )
    return id_text(done.record), first, second


def test_a_doctor_decides_what_doctors_write_with_both_values_before_them(hub: PagedHub, officer: Window) -> None:
    claim, first, second = conflict_of_a_claim(hub)
    listed = table(officer.get("/conflicts").text)
    assert [row[0].split()[-1] for row in listed] == [claim]
    assert "Asha" not in officer.get("/conflicts").text
    doctor, path = hub.window_of("rao"), f"/conflicts/claim/{claim}"
    assert path in doctor.get("/conflicts").text
    shown = doctor.get(path).text
    assert first in shown and second in shown
    assert "Name of rao" in shown and "Name of nair" in shown
    take = re.search(rf'value="([0-9a-f]{{32}})"[^>]*>\s*<label[^>]*>\s*{first}', shown)
    assert take is not None
    assert doctor.send(path, {"note": "mine"}).status_code == 422, "nothing was chosen"
    answer = doctor.send(path, {"take": take[1], "note": "mine"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/conflicts")
    assert doctor.get(path).status_code == 404
    assert "Nothing is in conflict" in officer.shown("/conflicts")
    assert hub.noted("read conflict") >= 1
    assert hub.noted("resolve conflict") == 1


def test_what_was_not_on_the_page_is_neither_chosen_nor_replaced(hub: PagedHub) -> None:
    claim, _first, _second = conflict_of_a_claim(hub)
    doctor, path = hub.window_of("rao"), f"/conflicts/claim/{claim}"
    shown = re.findall(r'name="shown" value="([0-9a-f]{32})"', doctor.get(path).text)
    form = {"csrf": doctor.csrf, "field": "referral", "take": shown[1], "shown": shown[:1]}
    assert doctor.post(path, form).status_code == 422
    for fields in ({"take": "x"}, {"take": os.urandom(16).hex()}, {"field": "no such"}, {"shown": "x"}):
        assert doctor.post(path, form | fields).status_code in (404, 422), fields
    answer = doctor.post(path, form | {"take": shown[0]})
    assert answer.status_code == 303
    assert doctor.get(path).status_code == 200, "the other value was not shown, so it stands"


def test_a_conflict_is_opened_only_by_a_doctor_who_may_see_the_patient(hub: PagedHub, officer: Window) -> None:
    claim, _, _ = conflict_of_a_claim(hub)
    path = f"/conflicts/claim/{claim}"
    before = hub.noted("read conflict")
    for window in (hub.window_of("skin"), officer):
        assert window.get(path).status_code == 403
        assert window.post(path, {"csrf": window.csrf, "take": "0" * 32, "field": "referral"}).status_code == 403
    assert hub.noted("read conflict") == before


def test_what_the_centre_writes_is_shown_and_left_to_the_centre(hub: PagedHub) -> None:
    node = hub.world.node("HWC2")
    _, patient = refer(hub, node)
    shown: dict[str, list[bytes]] = {"village": []}
    rivals = [node.write("patient", {"name": f"Asha {at}"}, record=patient, shown=shown) for at in range(2)]
    send(hub, node, *rivals)
    doctor, path = hub.window_of("rao"), f"/conflicts/patient/{id_text(patient)}"
    page = doctor.get(path).text
    assert "Asha 0" in page and "Asha 1" in page
    assert "the centre decides" in page
    assert 'name="take"' not in page
    assert path not in doctor.get("/conflicts").text
    value = re.search(r'name="shown" value="([0-9a-f]{32})"', page)
    assert value is not None
    refused = doctor.post(path, {"csrf": doctor.csrf, "field": "name", "take": value[1], "shown": value[1]})
    assert (refused.status_code, "E_NOT_OURS" in refused.text) == (422, True)


def test_a_doctor_is_told_of_decisions_of_their_own_hospital_only(hub: PagedHub, database_url: str) -> None:
    conflict_of_a_claim(hub)
    with psycopg.connect(database_url) as connection:
        connection.execute("INSERT INTO hospital VALUES ('DH-1', 'One', 0), ('DH-2', 'Two', 0)")
        connection.execute("UPDATE facility SET hub = 'DH-1'")
        connection.execute("UPDATE person SET hub = 'DH-1' WHERE login = 'rao'")
        connection.execute("UPDATE person SET hub = 'DH-2' WHERE login = 'nair'")
    assert "1 record waits" in hub.window_of("rao").shown("/service")
    assert "waits for a doctor" not in hub.window_of("nair").shown("/service")
    assert "Nothing is in conflict" in hub.window_of("nair").shown("/conflicts")


def test_counts_by_page_equal_the_rows_that_scripts_get(hub: PagedHub, officer: Window) -> None:
    visit(hub, hub.world.node("HWC2"))
    counted(hub)
    with hub.world.database.transaction() as connection:
        (row,) = stats.rows(connection, By.STATE)
    assert table(officer.get("/service?days=7").text)[0][1:4] == [
        str(row.consultations),
        str(row.referrals),
        str(row.answered),
    ]


def test_no_record_waits_for_a_doctor_whose_list_is_empty(hub: PagedHub) -> None:
    with hub.world.database.transaction() as connection:
        connection.execute(
            "INSERT INTO conflicted (facility, record, kind, patient, fields, since_ms)"
            " VALUES ('HWC2', %s, 'referral', %s, 1, 1)",
            (b"r" * 16, b"p" * 16),
        )
        for kinds in (None, ["referral"]):
            assert dashboards.conflicting(connection, kinds=kinds) == ([], 0)
