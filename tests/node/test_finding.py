"""Patients found by what is typed: names however they are spelt, halves of names, numbers and their ends."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwc_node import erasing, finding, lexicon, names
from hwc_node.engine import begin_read, begin_write
from hwc_node.store import Store
from sync_protocol import documents
from sync_protocol.change import ChangeId, PatientId, RecordId, RecordKey
from tests.node import enrolled_home
from tests.node.command_line import Runner, point_at
from tests.node.enrolled_home import NOW_MS, PERSON, Home, make_home

PEOPLE: dict[str, dict[str, object]] = {
    "laxmi": {"name": "Laxmi Devi", "village": "Rampur", "phone": "98450 12345", "sex": "F", "birth": {"year": 1980}},
    "lakshmi": {"name": "लक्ष्मी बाई", "village": "Nallur", "sex": "F"},
    "lakhan": {"name": "Lakhan Singh", "phone": "9812300000"},
    "ramesh": {"name": "Ramesh Kumar", "abha": "91-1234-5678-9012"},
    "suresh": {"name": "Suresh Kumar"},
    "mohammad": {"name": "Mohammad Ansari"},
    "urdu": {"name": "محمد خان"},
    "santali": {"name": "ᱥᱩᱱᱤᱛᱟ ᱢᱩᱨᱢᱩ"},
}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path)


@pytest.fixture
def store(home: Home) -> Iterator[Store]:
    with home.open() as made:
        yield made


def register(store: Store, writes: dict[str, object]) -> PatientId:
    return PatientId(enrolled_home.write(store, PERSON, "patient", writes).record)


@pytest.fixture
def people(store: Store) -> dict[PatientId, str]:
    """Who is at the centre: their ids and what this test calls them."""
    return {register(store, writes): who for who, writes in PEOPLE.items()}


def found(store: Store, people: dict[PatientId, str], typed: str) -> list[str]:
    return [people[one.patient] for one in finding.find(store, typed)]


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("Lakshmi", {"laxmi", "lakshmi"}),
        ("लक्ष्मी", {"laxmi", "lakshmi"}),
        ("laxmi devi", {"laxmi"}),
        ("Devi Lakshmi", {"laxmi"}),
        ("smt laxmi", {"laxmi", "lakshmi"}),
        ("Muhammed", {"mohammad"}),
        ("Mohd Ansari", set()),  # one of two
        ("محمد خان", {"urdu"}),
        ("محمد", {"urdu"}),
        ("ᱢᱩᱨᱢᱩ", {"santali"}),
        ("Rames", {"ramesh"}),
        ("Ram", {"ramesh"}),
        ("kumar", {"ramesh", "suresh"}),
        ("Ramesh Kumar", {"ramesh"}),
        ("98450 12345", {"laxmi"}),
        ("9845", {"laxmi"}),
        ("12345", {"laxmi"}),
        ("+91 98450 12345", {"laxmi"}),
        ("91-1234-5678-9012", {"ramesh"}),
        ("9012", {"ramesh"}),
        ("laxmi 12345", {"laxmi"}),
        ("laxmi 99999", set()),
        ("Xerxes", set()),
        ("", set()),
        ("?! 12", set()),
    ],
)
def test_a_patient_is_found_by_any_spelling_half_a_name_or_a_number(
    store: Store, people: dict[PatientId, str], typed: str, wanted: set[str]
) -> None:
    several = len(typed.split()) > 1
    near = [people[one.patient] for one in finding.find(store, typed) if one.nearness > finding.HARDLY or not several]
    assert set(near) == wanted


def test_who_has_some_of_the_words_stands_behind_who_has_all(store: Store, people: dict[PatientId, str]) -> None:
    assert found(store, people, "Ramesh Kumar") == ["ramesh", "suresh"]
    assert found(store, people, "laxmi devi")[0] == "laxmi"
    assert found(store, people, "Lakshmi Pandey 12345")[0] == "laxmi"
    assert found(store, people, "Xerxes Yggdrasil") == []


def test_a_name_with_a_word_more_is_found_and_near(store: Store) -> None:
    many = [register(store, {"name": f"{one} Devi"}) for one in ("Asha", "Usha", "Radha", "Meena")]
    other = register(store, {"name": "Sunita Sharma"})
    sunita = register(store, {"name": "Sunita"})
    first, *rest = finding.find(store, "Suneeta Devi")
    assert (first.patient, first.nearness) == (sunita, finding.PARTLY)
    assert {one.patient for one in rest} == {other, *many}
    assert all(one.nearness <= finding.HARDLY / 2 for one in rest)
    assert [one.patient for one in finding.find(store, "Sunita Devi", 2)] == [sunita, other], "the rarer name's first"


def test_a_single_letter_leaves_nobody_out_and_tells_who_stands_first(
    store: Store, people: dict[PatientId, str]
) -> None:
    """While "lakshmi devi" is typed, and for an initial."""
    assert found(store, people, "lakshmi d")[0] == "laxmi"
    assert set(found(store, people, "lakshmi d")) == {"laxmi", "lakshmi"}
    assert found(store, people, "lakshmi b")[0] == "lakshmi"
    assert set(found(store, people, "K Lakshmi")) == {"laxmi", "lakshmi"}
    assert found(store, people, "s kumar")[0] == "suresh"
    assert set(found(store, people, "k")) == set(found(store, people, "k k"))


def test_a_phone_is_found_with_or_without_what_is_dialled_before_it(store: Store) -> None:
    written = ("+91 98450 12345", "098450 12345", "9845012345", "0091 9845012345")
    names_of = {register(store, {"name": "Asha", "phone": phone}) for phone in written}
    register(store, {"name": "Usha", "phone": "91234 56789"})
    for typed in ("98450", "+9198450", "098450", "98450 12345", "+91 98450 12345", "09845012345", "12345"):
        assert {one.patient for one in finding.find(store, typed)} == names_of, typed


def test_the_nearest_stands_first_with_what_a_list_shows(store: Store, people: dict[PatientId, str]) -> None:
    first = next(name for name, who in people.items() if who == "laxmi")
    enrolled_home.write(store, PERSON, "case", {"at": NOW_MS - 5_000, "plan": "rest"}, patient=first)
    best, *others = finding.find(store, "Laxmi Devi")
    assert (best.patient, best.nearness, best.view["village"], best.last_visit_ms) == (
        first,
        1.0,
        "Rampur",
        NOW_MS - 5_000,
    )
    assert [people[one.patient] for one in others] == ["lakshmi"], "who has one word of two"
    exact, near = finding.find(store, "laksmi")[:2]
    assert exact.nearness >= near.nearness
    assert len(finding.find(store, "laksmi", 1)) == 1


def test_a_corrected_name_finds_by_the_old_and_the_new_and_what_the_hub_brings_is_found(
    store: Store, people: dict[PatientId, str]
) -> None:
    name = next(name for name, who in people.items() if who == "suresh")
    shown = {"name": [only_change(store, name)]}
    enrolled_home.write(store, PERSON, "patient", {"name": "Mahesh Kumar"}, record=name, shown=shown)
    assert found(store, people, "Mahesh") == found(store, people, "Suresh") == ["suresh"]
    elsewhere = enrolled_home.arrive(store, "patient", {"name": "Zaynab Bi"}, 1)
    assert [one.patient for one in finding.find(store, "ज़ैनब")] == [PatientId(elsewhere.record)]


def only_change(store: Store, name: bytes) -> ChangeId:
    kept = store.record(RecordKey("patient", RecordId(name)))
    assert kept is not None
    return kept.kept[0].held.change.id


def test_the_last_visit_is_a_visit_and_nothing_else_that_was_kept(store: Store) -> None:
    name = register(store, {"name": "Zubeda Bano"})

    def last() -> int | None:
        (only,) = finding.find(store, "Zubeda")
        return only.last_visit_ms

    enrolled_home.write(store, PERSON, "consent", {"at": NOW_MS, "given": True}, patient=name)
    assert last() is None, "who was only registered has not come yet"
    enrolled_home.write(store, PERSON, "case", {"at": NOW_MS - 9_000}, patient=name)
    wrong = enrolled_home.write(store, PERSON, "case", {"at": NOW_MS - 3_000}, patient=name)
    enrolled_home.write(
        store, PERSON, "referral", {"at": NOW_MS, "specialty": "ent", "urgency": "routine"}, patient=name
    )
    kept = store.record(wrong)
    assert kept is not None
    mark = {"entered_in_error": {"hidden": True, "reason": "another", "shown": [kept.kept[0].held.change.id]}}
    assert last() == NOW_MS - 3_000
    enrolled_home.write(store, PERSON, "case", mark, record=wrong.record, patient=name)
    assert last() == NOW_MS - 9_000


def test_the_last_visits_of_those_found_are_read_from_their_records_alone(store: Store) -> None:
    with begin_read(store.engine) as connection:
        plan = connection.exec_driver_sql(
            "EXPLAIN QUERY PLAN " + finding._LAST_VISITS.format("?, ?"), (b"1", b"2")
        ).fetchall()
    assert [row[3] for row in plan] == ["SEARCH record USING INDEX record_patient (patient=?)"]


def test_who_was_entered_in_error_is_not_found(store: Store, people: dict[PatientId, str]) -> None:
    name = next(name for name, who in people.items() if who == "mohammad")
    mark = {"entered_in_error": {"hidden": True, "reason": "somebody else", "shown": [only_change(store, name)]}}
    enrolled_home.write(store, PERSON, "patient", mark, record=name, patient=name)
    assert found(store, people, "Mohammad") == []


def test_whether_some_are_hidden_is_asked_of_these_alone(store: Store) -> None:
    with begin_read(store.engine) as connection:
        plan = connection.exec_driver_sql(
            "EXPLAIN QUERY PLAN " + finding.HIDDEN.format("?, ?"), (b"1", b"2")
        ).fetchall()
    assert [row[3] for row in plan] == ["SEARCH record USING INDEX record_patient (patient=?)"]


def test_an_upgrade_finds_those_who_were_here_before(home: Home) -> None:
    with home.open() as store:
        name = register(store, {"name": "Laxmi Devi", "phone": "9845012345"})
        with begin_write(store.engine) as connection:
            for later in (
                "TABLE patient_word",
                "TABLE draft",
                "TABLE word",
                "INDEX change_oldest",
                "TABLE referral_work",
                "TABLE follow_up_work",
                "TABLE patient_work",
            ):
                connection.exec_driver_sql(f"DROP {later}")
            connection.exec_driver_sql("DROP INDEX record_at")
            connection.exec_driver_sql("ALTER TABLE change DROP COLUMN sent_ms")
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0004'")
    with home.open() as store:
        assert [one.patient for one in finding.find(store, "lakshmi")] == [name]
        assert [one.patient for one in finding.find(store, "9845012345")] == [name]


def test_an_upgrade_finds_names_of_other_scripts_of_those_who_were_here_before(home: Home) -> None:
    with home.open() as store:
        name = register(store, {"name": "محمد خان"})
        with begin_write(store.engine) as connection:
            for table in ("patient_word", "word"):
                connection.exec_driver_sql(f"DELETE FROM {table}")
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0013'")
    with home.open() as store:
        assert [one.patient for one in finding.find(store, "محمد")] == [name]


digits = st.text(alphabet="0149", min_size=4, max_size=16)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(st.lists(digits, max_size=12), digits, st.sampled_from(["", "0", "91", "0091"]))
def test_numbers_are_looked_up_as_if_each_were_compared(
    store: Store, stored: list[str], typed: str, dialled: str
) -> None:
    for number in stored:
        register(store, {"name": "Asha", "phone": number})
    with begin_read(store.engine) as connection:
        every = [str(word) for (word,) in connection.exec_driver_sql("SELECT word FROM word") if word[0].isdigit()]
        for number in (typed, dialled + typed, *(one[-6:] for one in stored if len(one) > 6)):
            wanted = {word for word in every if lexicon.says(word, number)}
            assert set(lexicon.numbers(connection, number)) == wanted


def test_the_sounds_in_memory_are_those_that_are_stored(store: Store, people: dict[PatientId, str]) -> None:
    def stored() -> set[str]:
        with begin_read(store.engine) as connection:
            return {str(word) for (word,) in connection.exec_driver_sql("SELECT word FROM word WHERE word >= 'a'")}

    def held() -> list[str]:
        with begin_read(store.engine) as connection:
            return list(sounds.all(connection))

    sounds = lexicon.Sounds()
    assert set(held()) == stored()
    register(store, {"name": "Vishwanath Laxmi"})
    assert set(held()) == stored()
    (erased,) = [patient for patient, who in people.items() if who == "mohammad"]
    with begin_write(store.engine) as connection:
        erasing.obey(connection, erased, NOW_MS)
    assert set(held()) == stored()
    assert len(held()) == len(set(held()))


def test_a_word_that_was_an_erased_patients_alone_is_gone(store: Store, people: dict[PatientId, str]) -> None:
    (erased,) = [patient for patient, who in people.items() if who == "suresh"]
    with begin_write(store.engine) as connection:
        erasing.obey(connection, erased, NOW_MS)
        words = {str(word) for (word,) in connection.exec_driver_sql("SELECT word FROM word")}
        held = {str(word) for (word,) in connection.exec_driver_sql("SELECT word FROM patient_word")}
    assert words == held
    assert names.sounds("Suresh")[0] not in words
    assert names.sounds("Kumar")[0] in words


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.text(max_size=120))
def test_any_text_may_be_typed(store: Store, typed: str) -> None:
    finding.find(store, typed)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(st.text(alphabet=st.characters(min_codepoint=0x0904, max_codepoint=0x0D6F), min_size=3, max_size=20))
def test_who_has_a_name_is_found_by_it(store: Store, name: str) -> None:
    patient = register(store, {"name": name})
    if names.sounds(name):
        assert patient in [one.patient for one in finding.nearest(store, name, 1_000)]


def test_the_command_shows_names_only_when_asked(
    home: Home, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    with home.open() as store:
        name = register(store, PEOPLE["laxmi"])
    point_at(home, monkeypatch)
    hwc = Runner(capfdbinary)
    told = hwc("find", "lakshmi")
    assert (told.status, documents.id_text(name) in told.out, "Laxmi" in told.out, "Rampur" in told.out) == (
        0,
        True,
        False,
        True,
    )
    assert "Laxmi Devi" in hwc("find", "lakshmi", "--show-names").out
    (shape,) = hwc("find", "--json", "12345").lines
    assert shape["patient"] == documents.id_text(name)
    assert set(shape) == {"patient", "nearness", "sex", "birth", "village", "last_visit_at"}
    monkeypatch.setattr("sys.stdin", io.StringIO("lakshmi devi\nsomething else\n"))
    assert hwc("find", "-", "--json").shape["patient"] == documents.id_text(name)
    nobody = hwc("find", "Xerxes")
    assert (nobody.status, nobody.out, "Nobody" in nobody.err) == (0, "", True)
    assert hwc("find").status == 2


def test_no_word_of_a_name_lies_open_on_the_disk(home: Home) -> None:
    with home.open() as store:
        enrolled_home.write(store, PERSON, "patient", {"name": "Laxmi Devi"})
        with begin_read(store.engine) as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM patient_word").scalar() == 2
    assert not any(b"laksmi" in one.read_bytes() for one in home.config.home.rglob("*") if one.is_file())
