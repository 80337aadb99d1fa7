"""The month's report equals a plain recount of everything that is here, whatever the clocks and whoever wrote it."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwc_node import keystore, reporting, worklist
from hwc_node.engine import begin_write
from hwc_node.overview import when_ms
from hwc_node.reporting import AGES, Month, Report, Waits
from hwc_node.store import KeptRecord, Store
from sync_protocol import merge, referral
from sync_protocol.change import ChangeId, PatientId
from sync_protocol.errors import InvalidValue
from sync_protocol.schema import Writer
from tests.node import enrolled_home
from tests.node.command_line import Runner, point_at
from tests.node.enrolled_home import FACILITY, NOW_MS, PERSON, Home, arrive, fresh_id, make_home, write
from tests.node.paged_centre import Centre

TODAY = date(2026, 2, 2)  # of NOW_MS
JANUARY = Month(2026, 1)
HOUR_MS, DAY_MS = 3_600_000, 86_400_000


@pytest.fixture(autouse=True)
def quick_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keystore, "NEW_MEMORY_KIB", 64)
    monkeypatch.setattr(keystore, "NEW_ITERATIONS", 1)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path)


@pytest.fixture
def store(home: Home) -> Iterator[Store]:
    with home.open() as opened:
        yield opened


def at(year: int, month: int, day: int, hour: int = 12, minute: int = 0, second: int = 0) -> int:
    """A time in India, in milliseconds."""
    local = datetime(year, month, day, hour, minute, second, tzinfo=UTC) - timedelta(hours=5, minutes=30)
    return int(local.timestamp()) * 1000


def report(store: Store, month: Month = JANUARY, today: date = TODAY) -> Report:
    return reporting.report(store, month, today)


# -- a plain recount ---------------------------------------------------------------------------------------------------


def recount(store: Store, month: Month, today: date) -> Report:
    """Every record opened, one by one, with nothing but the calendar."""
    records = list(store.records())
    own = {bytes(one.key.record): one for one in records if one.key.kind == "patient"}
    counted = [
        one
        for one in records
        if one.facility == FACILITY and merge.is_visible(one.record) and _is_shown(own.get(bytes(one.patient)))
    ]
    dated = [one for one in counted if one.at_ms is not None]
    inside = [one for one in dated if _day(one.at_ms)[:2] == (month.year, month.month)]
    cases = [one for one in inside if one.key.kind == "case"]
    asked = [(one, _progress(one, records)) for one in inside if one.key.kind == "referral"]
    kept = [(one, now) for one, now in asked if not now.withdrawn]
    due = [
        one for one in counted if one.key.kind == "follow_up" and str(one.record.view().get("due"))[:7] == month.text
    ]
    open_ = [one for one in due if one.record.view().get("done") is not True]
    stages = Counter("waiting" if now.status.value in ("saved", "sent") else now.status.value for _, now in kept)
    ages = Counter((_sex(own.get(bytes(one.patient))), _band(one, own.get(bytes(one.patient)))) for one in cases)
    overdue = sum(str(one.record.view()["due"]) < today.isoformat() for one in open_)
    undated = [one for one in counted if one.at_ms is None and one.key.kind in ("case", "referral")]
    return Report(
        month,
        (today.year, today.month) <= (month.year, month.month),
        len({bytes(one.patient) for one in cases}),
        tuple(sum(_day(one.at_ms)[2] == day for one in cases) for day in range(1, month.days + 1)),
        {sex: tuple(ages[sex, band] for band in range(len(AGES) + 1)) for sex in reporting.SEXES},
        len(kept),
        len(asked) - len(kept),
        tuple(
            sorted(Counter(str(one.record.view()["specialty"]) for one, _ in kept).items(), key=lambda p: (-p[1], p[0]))
        ),
        {
            word: sum(one.record.view()["urgency"] == word for one, _ in kept)
            for word in ("emergency", "urgent", "routine")
        },
        {stage: stages[stage] for stage in reporting.STAGES},
        {word: sum(_became(one, records) == word for one, _ in kept) for word in reporting.OUTCOMES},
        _waits([(now.saved_ms, now.received_ms) for _, now in kept]),
        _waits([(now.saved_ms, now.first_answered_ms) for _, now in kept]),
        len(due),
        len(due) - len(open_),
        overdue,
        len(undated),
    )


def _became(one: KeptRecord, records: list[KeptRecord]) -> str:
    """By the choice of the referral's case, else whether it was told in words."""
    for other in records:
        if other.key.kind == "case" and other.key.record == one.record.view().get("case"):
            return str(other.record.view().get("outcome") or "") if merge.is_visible(other.record) else ""
    said = [other.record.view() for other in records if other.key.kind == "acknowledgement"]
    return "in_words" if any(view.get("referral") == one.key.record and view.get("outcome") for view in said) else ""


def _is_shown(own: KeptRecord | None) -> bool:
    return own is None or merge.is_visible(own.record)


def _day(ms: int | None) -> tuple[int, int, int]:
    assert ms is not None
    local = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms, hours=5, minutes=30)
    return local.year, local.month, local.day


def _progress(one: KeptRecord, records: list[KeptRecord]) -> referral.Progress:
    beside = [other.record for other in records if other.patient == one.patient and other.key != one.key]
    return referral.progress(one.record, beside, sent=False)


def _sex(own: KeptRecord | None) -> str:
    sex = own.record.view().get("sex") if own is not None else None
    return sex if isinstance(sex, str) and sex in ("F", "M", "O") else ""


def _band(visit: KeptRecord, own: KeptRecord | None) -> int:
    """By birthdays, one at a time."""
    birth: Any = own.record.view().get("birth") if own is not None else None
    year, month, day = _day(visit.at_ms)
    if not isinstance(birth, dict):
        return len(AGES)
    if "date" in birth:
        born = date.fromisoformat(birth["date"])
        if birth.get("precision") == "year":
            born = date(born.year, 1, 1)
    elif "year" in birth:
        born = date(birth["year"], 1, 1)
    else:
        said = date.fromisoformat(birth["said_on"])
        born = date(said.year - birth["age_years"], said.month, min(said.day, 28))
    age = sum((born.year + years, born.month, born.day) <= (year, month, day) for years in range(1, 400))
    if (born.year, born.month, born.day) > (year, month, day):
        return len(AGES)
    return next((band for band, (low, high) in enumerate(AGES) if low <= age <= high), len(AGES))


def _waits(pairs: list[tuple[int, int | None]]) -> Waits:
    came = [end - begin for begin, end in pairs if end is not None]
    sound = sorted(one for one in came if 0 <= one <= 366 * DAY_MS)
    half = [one for one in sound if 2 * sum(other <= one for other in sound) >= len(sound)]
    most = [one for one in sound if 10 * sum(other <= one for other in sound) >= 9 * len(sound)]
    return Waits(len(sound), min(half, default=None), min(most, default=None), len(came) - len(sound))


births = st.sampled_from(
    [
        None,
        {"date": "1996-02-29", "precision": "day"},
        {"date": "2026-01-15", "precision": "day"},
        {"date": "2021-01-31", "precision": "day"},
        {"date": "2090-05-05", "precision": "day"},
        {"date": "1966-06-06", "precision": "year"},
        {"year": 2011, "precision": "year"},
        {"age_years": 40, "said_on": "2026-01-10", "precision": "about"},
    ]
)
times = st.sampled_from(
    [
        at(2026, 1, 1, 0),
        at(2026, 1, 1, 0) - 1,
        at(2026, 1, 31, 23, 59, 59) + 999,
        at(2026, 2, 1, 0),
        at(2026, 1, 15),
        at(2024, 2, 29, 23),
        at(1970, 1, 1, 6),
        at(2098, 12, 31, 23),
        None,
    ]
)
specialties = st.sampled_from(["ent", "surgery", "=1+1", "कान"])
urgencies = st.sampled_from(["routine", "urgent", "emergency"])
MONTHS = [JANUARY, Month(2025, 12), Month(2026, 2), Month(2024, 2), Month(1970, 1), Month(2098, 12), Month(2026, 3)]


@st.composite
def days_of_work(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Patients, each with what was done for them, here or elsewhere."""
    return draw(
        st.lists(
            st.fixed_dictionaries(
                {
                    "patient": st.fixed_dictionaries({"sex": st.sampled_from([None, *"FMOU"]), "birth": births}),
                    "arrives": st.booleans(),
                    "hidden": st.integers(0, 5).map(lambda drawn: drawn == 0),
                    "cases": st.lists(st.tuples(times, st.booleans()), max_size=3),
                    "referrals": st.lists(
                        st.tuples(times, specialties, urgencies, st.integers(0, 6), st.integers(0, 500)), max_size=2
                    ),
                    "follow_ups": st.lists(
                        st.tuples(
                            st.sampled_from(["2026-01-01", "2026-01-31", "2026-02-02", "2026-02-28", "2026-03", None]),
                            st.booleans(),
                        ),
                        max_size=2,
                    ),
                }
            ),
            max_size=6,
        )
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=12)
@given(days_of_work(), st.integers(0, 10))
def test_a_report_is_what_a_plain_recount_counts(home: Home, work: list[dict[str, Any]], elsewhere: int) -> None:
    with home.open() as store:
        with begin_write(store.engine) as connection:
            for table in ("change", "record", "referral_work", "follow_up_work", "patient_work", "patient_word"):
                connection.exec_driver_sql(f"DELETE FROM {table}")
        for number, one in enumerate(work):
            _live(store, one, number, from_elsewhere=elsewhere == number)
        for month in MONTHS:
            assert report(store, month) == recount(store, month, TODAY)


def _live(store: Store, one: dict[str, Any], number: int, *, from_elsewhere: bool) -> None:
    position = 1_000 * (number + 1)
    own = {"name": "Sita", **{name: value for name, value in one["patient"].items() if value is not None}}
    name = fresh_id()
    if one["arrives"]:
        arrive(store, "patient", own, position, record=name)
    else:
        write(store, PERSON, "patient", own, record=name)
    if from_elsewhere:
        _arrive_from(store, "case", {"at": at(2026, 1, 15)}, name, position + 1)
        _arrive_from(
            store, "referral", {"at": at(2026, 1, 15), "specialty": "ent", "urgency": "urgent"}, name, position + 2
        )
        _arrive_from(store, "follow_up", {"due": "2026-01-20"}, name, position + 3)
    for at_ms, in_error in one["cases"]:
        seen: dict[str, Any] = {"history": "x"} | ({} if at_ms is None else {"at": at_ms})
        key = write(store, PERSON, "case", seen, patient=name)
        if in_error:
            _hide(store, "case", key.record, name)
    for at_ms, specialty, urgency, stage, minutes in one["referrals"]:
        _refer(store, name, at_ms, specialty, urgency, stage, minutes, position + 10)
        position += 10
    for due, done in one["follow_ups"]:
        writes: dict[str, Any] = {"done": done} | ({"due": due} if due else {"note": "x"})
        write(store, PERSON, "follow_up", writes, patient=name)
    if one["hidden"]:
        _hide(store, "patient", name, name)


def _refer(
    store: Store, name: bytes, at_ms: int | None, specialty: str, urgency: str, stage: int, minutes: int, position: int
) -> None:
    dated: dict[str, Any] = {} if at_ms is None else {"at": at_ms}
    key = write(store, PERSON, "referral", {"specialty": specialty, "urgency": urgency} | dated, patient=name)
    about: dict[str, Any] = {"referral": key.record}
    if stage >= 1:
        enrolled_home.give_positions(store, key, position)
    if stage >= 2:
        arrive(store, "claim", about, position + 2, patient=name, origin=Writer.DOCTOR)
    if stage >= 3:
        later = NOW_MS + (minutes - 3) * 60_000
        reply = arrive(
            store, "reply", about | {"advice": "x"}, position + 3, patient=name, origin=Writer.DOCTOR, now_ms=later
        )
        about |= {"reply": reply.record}
    if stage >= 4:
        said = {"seen": True} | ({"outcome": "well"} if stage == 5 else {})
        write(store, PERSON, "acknowledgement", about | said, patient=name)
    if stage == 6:
        gone = {"withdrawn": {"withdrawn": True, "reason": "x"}}
        write(store, PERSON, "referral", gone, record=key.record, patient=name)


def _hide(store: Store, kind: str, record: bytes, patient: bytes) -> None:
    shown: list[ChangeId] = []
    for kept in store.patient_records(PatientId(patient)):
        if kept.key.kind == kind and kept.key.record == record:
            shown = list(kept.record.changes)
    mark = {"entered_in_error": {"hidden": True, "reason": "another", "shown": shown}}
    write(store, PERSON, kind, mark, record=record, patient=patient)


def _arrive_from(store: Store, kind: str, writes: dict[str, Any], patient: bytes, position: int) -> None:
    """What another centre did for a patient that this one follows."""
    enrolled_home.arrive(store, kind, writes, position, patient=patient, facility="HWC000009")


# -- what it says ------------------------------------------------------------------------------------------------------


def test_an_empty_month_is_all_noughts(store: Store) -> None:
    found = report(store)
    assert found == recount(store, JANUARY, TODAY)
    assert (found.consultations, found.referrals, found.due, found.undated) == (0, 0, 0, 0)
    assert found.to_answered == Waits(0, None, None, 0)
    assert found.by_day == (0,) * 31


def test_a_month_begins_and_ends_at_midnight_in_india(store: Store) -> None:
    name = write(store, PERSON, "patient", {"name": "Sita"}).record
    for moment in (at(2026, 1, 1, 0), at(2026, 1, 1, 0) - 1, at(2026, 2, 1, 0) - 1, at(2026, 2, 1, 0)):
        write(store, PERSON, "case", {"at": moment}, patient=name)
    found = report(store)
    assert (found.by_day[0], found.by_day[30], found.consultations, found.patients) == (1, 1, 2, 1)
    assert report(store, Month(2025, 12)).by_day[30] == 1
    assert report(store, Month(2026, 2)).by_day[0] == 1


def test_months_follow_each_other_through_the_year_and_have_their_days() -> None:
    assert (Month(2026, 1).before, Month(2025, 12).after) == (Month(2025, 12), Month(2026, 1))
    assert [Month(year, 2).days for year in (2024, 2025, 2100, 2000)] == [29, 28, 28, 29]
    assert Month.of(date(2026, 2, 2)).text == "2026-02"
    assert reporting.parse_month(" 2026-03 ") == Month(2026, 3)
    for text in ("", "2026", "2026-13", "2026-00", "1969-12", "2200-01", "२०२६-०१", "2026-3", "2026-03-01", "x" * 99):
        with pytest.raises(InvalidValue) as caught:
            reporting.parse_month(text)
        assert caught.value.code == "E_BAD_MONTH"


def test_the_current_month_is_so_far_and_one_that_is_over_is_not(store: Store) -> None:
    assert report(store, Month(2026, 2)).so_far
    assert not report(store, JANUARY).so_far
    assert report(store, JANUARY, date(2026, 1, 31)).so_far


def test_half_and_nine_of_ten_are_waits_that_happened(store: Store) -> None:
    assert reporting._waits([(0, minutes) for minutes in range(1, 11)]) == Waits(10, 5, 9, 0)
    assert reporting._waits([(0, 7)]) == Waits(1, 7, 7, 0)
    assert reporting._waits([(5, 3), (0, 400 * DAY_MS), (0, None), (2, 2)]) == Waits(1, 0, 0, 2)


def test_specialties_that_are_typed_freely_are_bounded(store: Store) -> None:
    found = reporting._most_frequent([f"s{number:03}" for number in range(50)] + ["s049"])
    assert found[0] == ("s049", 2)
    assert len(found) == reporting.MOST_SPECIALTIES + 1
    assert found[-1] == ("", 20)


def test_what_is_corrected_later_counts_as_it_is_shown(store: Store) -> None:
    name = write(store, PERSON, "patient", {"name": "Sita", "sex": "M"}).record
    write(store, PERSON, "case", {"at": at(2026, 1, 15)}, patient=name)
    (kept,) = [one for one in store.patient_records(PatientId(name)) if one.key.kind == "patient"]
    write(store, PERSON, "patient", {"sex": "F"}, record=name, patient=name, shown={"sex": list(kept.record.changes)})
    assert report(store).by_age["F"][-1] == 1
    assert when_ms(kept) > 0


def test_an_upgrade_counts_what_was_here_before(home: Home) -> None:
    with home.open() as store:
        name = write(store, PERSON, "patient", {"name": "Sita", "sex": "F", "birth": {"year": 1990}}).record
        write(store, PERSON, "case", {"at": at(2026, 1, 15)}, patient=name)
        asked = {"at": at(2026, 1, 15), "specialty": "ent", "urgency": "urgent"}
        write(store, PERSON, "referral", asked, patient=name)
        before = report(store)
        with begin_write(store.engine) as connection:
            connection.exec_driver_sql("DROP TABLE patient_work")
            connection.exec_driver_sql("DROP TABLE word")
            connection.exec_driver_sql("DROP INDEX change_oldest")
            connection.exec_driver_sql("DROP INDEX referral_work_asked")
            for index, table, columns in (
                ("referral_work_order", "referral_work", "section, urgency, saved_ms, referral"),
                ("follow_up_work_due", "follow_up_work", "done, due, follow_up"),
            ):
                connection.exec_driver_sql(f"DROP INDEX {index}")
                connection.exec_driver_sql(f"CREATE INDEX {index} ON {table} ({columns})")
                connection.exec_driver_sql(f"ALTER TABLE {table} DROP COLUMN facility")
            for column in ("specialty", "first_answered_ms", "outcome", "asked"):
                connection.exec_driver_sql(f"ALTER TABLE referral_work DROP COLUMN {column}")
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0009'")
    with home.open() as store:
        assert report(store) == before
        assert before.specialties == (("ent", 1),)
        assert before.by_age["F"][4] == 1


def test_a_correction_takes_nothing_from_the_time_in_which_was_answered(store: Store) -> None:
    name = write(store, PERSON, "patient", {"name": "Sita"}).record
    asked = {"at": NOW_MS, "specialty": "ent", "urgency": "urgent"}
    about: dict[str, Any] = {"referral": write(store, PERSON, "referral", asked, patient=name).record}
    first = arrive(store, "reply", about | {"advice": "x"}, 1, patient=name, now_ms=NOW_MS + 600_000)
    wrong = {"advice": "y", "corrects": first.record, "correction_reason": "wrong dose"}
    arrive(store, "reply", about | wrong, 2, patient=name, now_ms=NOW_MS + DAY_MS)
    found = report(store, Month(2026, 2))
    assert found.to_answered == Waits(1, 600_000, 600_000, 0)
    assert found.stages["answered"] == 1


def test_what_became_of_who_was_referred_is_counted_by_the_choice_of_the_case(store: Store) -> None:
    name = write(store, PERSON, "patient", {"name": "Sita"}).record
    became: list[dict[str, Any]] = [{"outcome": "recovered"}, {"outcome": "died"}, {"outcome": "recovered"}, {}, {}]
    for number, outcome in enumerate(became):
        case = write(store, PERSON, "case", {"at": NOW_MS}, patient=name).record
        asked = {"at": NOW_MS, "specialty": "ent", "urgency": "urgent", "case": case}
        referred = write(store, PERSON, "referral", asked, patient=name).record
        if outcome:
            write(store, PERSON, "case", outcome, record=case, patient=name)
        if number == 3:
            write(store, PERSON, "acknowledgement", {"referral": referred, "outcome": "well"}, patient=name)
    found = report(store, Month(2026, 2))
    counted = {"recovered": 2, "died": 1, "in_words": 1, "": 1}
    assert found.outcomes == dict.fromkeys(reporting.OUTCOMES, 0) | counted
    group = [
        line for line in reporting.lines(found, str, str, str) if line[0] == "What became of the patients referred"
    ]
    assert [line[1:] for line in group if line[2]] == [
        ("recovered", 2), ("died", 1), ("Told in words only", 1), ("Not noted", 1)
    ]  # fmt: skip


# -- page, sheet, command ----------------------------------------------------------------------------------------------


@pytest.fixture
def centre(home: Home) -> Centre:
    made = Centre(home)
    name = write(made.store, PERSON, "patient", {"name": "Sita Planted", "sex": "F"}).record
    write(made.store, PERSON, "case", {"at": at(2026, 1, 15), "history": "planted"}, patient=name)
    asked = {"at": at(2026, 1, 15), "specialty": "=HYPERLINK(1)", "urgency": "emergency"}
    write(made.store, PERSON, "referral", asked, patient=name)
    return made


def test_the_page_shows_the_last_whole_month_and_goes_on_from_there(centre: Centre) -> None:
    window = centre.window_of()
    page = window.get("/report").text
    assert "Report, January 2026" in page
    assert 'href="/report?month=2025-12"' in page
    assert 'href="/report?month=2026-02"' in page
    assert page.count("<svg") >= 4
    assert "What became of the patients referred" in page
    assert "Not noted" in page
    assert "style=" not in page
    assert "=HYPERLINK(1)" in page
    assert "planted" not in page.lower()
    february = window.get("/report?month=2026-02").text
    assert "so far" in february
    assert 'href="/report?month=2026-03"' not in february
    assert window.get("/report?month=1970-01").status_code == 200
    assert "E_BAD_MONTH" in window.get("/report?month=2026-13").text


def test_a_sheet_holds_no_formula_and_says_what_the_page_says(centre: Centre) -> None:
    answer = centre.window_of().get("/report/sheet?month=2026-01")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="report-HWC000001-2026-01.csv"'
    assert answer.content.startswith(b"\xef\xbb\xbf")
    rows = list(csv.reader(io.StringIO(answer.content.decode("utf-8-sig"))))
    assert ["Consultations", "", "1"] in rows
    assert ["Consultations by day", "2026-01-15", "1"] in rows
    assert ["Referrals by specialty", "'=HYPERLINK(1)", "1"] in rows
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@"))]


def test_the_command_counts_the_same(
    home: Home, centre: Centre, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    point_at(home, monkeypatch)
    hwc = Runner(capfdbinary)
    shape = hwc("report", "--month", "2026-01", "--json").shape
    assert (shape["schema"], shape["month"], shape["consultations"]["total"]) == ("hwc.report/1", "2026-01", 1)
    assert shape["consultations"]["by_sex_and_age"]["F"]["unknown"] == 1
    assert (shape["referrals"]["by_urgency"]["emergency"], shape["referrals"]["by_stage"]["waiting"]) == (1, 1)
    assert shape["referrals"]["by_outcome"] == dict.fromkeys((*worklist.OUTCOMES, "in_words"), 0) | {"not_noted": 1}
    table = hwc("report", "--month", "2026-01")
    assert table.status == 0
    assert "Rampur (HWC000001), 2026-01" in table.out
    assert "'=HYPERLINK(1)" in hwc("report", "--month", "2026-01", "--csv").out
    assert hwc("report").status == 0
    assert (hwc("report", "--csv", "--json").status, hwc("report", "--month", "x").status) == (2, 1)
