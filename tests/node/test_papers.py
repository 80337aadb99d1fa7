"""What is printed: a slip that the hub can check, a prescription with what the guideline asks for, as page and as PDF."""

from __future__ import annotations

import re
import subprocess
import sys
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fontTools.ttLib import TTFont  # type: ignore[import-untyped]
from hypothesis import example, given
from hypothesis import strategies as st

from hwc_node import keystore
from hwc_node.clinic import Clinic
from hwc_node.printing import composing, drawing, letters, making
from hwc_node.printing.paper import Drugs, Facts, Heading, Mark, Paper, Part, Text
from hwc_node.store import Store
from hwc_node.visiting import Visiting
from sync_protocol import slip
from sync_protocol.change import PatientId, RecordId
from sync_protocol.documents import parse_id
from sync_protocol.errors import HealthSyncError, OurFault
from sync_protocol.pages import language
from sync_protocol.schema import Writer
from tests.node.enrolled_home import NOW_MS, PERSON, PERSON_NAME, arrive, make_home, write
from tests.node.paged_centre import Centre
from tests.node.referred import DOCTOR, PATIENT, Referred

DAY_MS = 86_400_000
HOSTILE = "\u202eabc\u202c <b>x</b> {nb} %(number)s \x07 =1+1 🙂👨\u200d👩 中文 " + "क्" * 40 + "long" * 90


@pytest.fixture(autouse=True)
def quick_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keystore, "NEW_MEMORY_KIB", 64)
    monkeypatch.setattr(keystore, "NEW_ITERATIONS", 1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with make_home(tmp_path).open() as opened:
        yield opened


@pytest.fixture
def referred(store: Store) -> Referred:
    return Referred.make(store)


def said_on(paper: Paper) -> str:
    """All that stands on a paper, with its labels."""
    found = [paper.place, paper.title, paper.foot]
    for part in paper.parts:
        if isinstance(part, Facts):
            found += [f"{label}: {text}" for label, text in part.rows]
        elif isinstance(part, Drugs):
            found += [f"{drug.name} | {drug.details} | {drug.advice}" for drug in part.lines]
        elif isinstance(part, Heading | Mark | Text):
            found.append(part.text)
        else:
            found += [str(value) for value in msgspec.structs.astuple(part)]
    return "\n".join(found)


def slip_of(store: Store, name: str, now_ms: int = NOW_MS) -> Paper:
    return composing.referral_slip(store, Clinic(store, PERSON), name, now_ms)


def prescription_of(store: Store, name: str, reply: str, now_ms: int = NOW_MS + DAY_MS) -> Paper:
    return composing.prescription(store, Clinic(store, PERSON), name, reply, now_ms)


def marks(paper: Paper) -> str:
    return "\n".join(part.text for part in paper.parts if isinstance(part, Mark))


# -- what stands on them -----------------------------------------------------------------------------------------------


def test_a_slip_says_who_why_and_what_was_found_and_its_code_is_signed(store: Store, referred: Referred) -> None:
    paper = slip_of(store, referred.name)
    said = said_on(paper)
    for part in ("आशा Devi", "34 years · Female", "Emergency", "Obstetrics and gynaecology", "Bleeding since morning",
                 "Allergies: Penicillin", "90/60 mmHg", "Pale. Abdomen soft.", f"Referred by: {PERSON_NAME}"):  # fmt: skip
        assert part in said, part
    (code,) = [part for part in paper.parts if hasattr(part, "letters")]
    member = store.membership
    summary = slip.parse(code.letters).verify(member.identity.verifier, member.environment)
    assert (summary.referral, summary.patient, summary.name) == (referred.referral.record, referred.patient, "आशा Devi")
    assert (summary.age_months, summary.age_certain, summary.sex) == (12 * 34 + 7, True, "F")
    assert (summary.urgency, summary.specialty, summary.allergies) == ("emergency", "obstetrics", ["Penicillin"])
    assert summary.measured["systolic_mmhg"] == 90
    assert summary.vitals_ms == NOW_MS


def test_what_is_not_known_is_left_out_and_what_was_not_asked_is_told(store: Store) -> None:
    own = write(store, PERSON, "patient", {"name": "Ramu"}).record
    key = write(store, PERSON, "referral", {"specialty": "ent", "urgency": "routine", "question": "Wax?"}, patient=own)
    paper = slip_of(store, str(key.record.hex()))
    assert "Allergies: Not asked" in said_on(paper)
    assert not [part for part in paper.parts if isinstance(part, Facts) and not all(text for _, text in part.rows)]
    assert "Measured" not in said_on(paper)
    (code,) = [part for part in paper.parts if hasattr(part, "letters")]
    summary = slip.parse(code.letters).summary
    assert (summary.allergies, summary.age_months, summary.reason, summary.measured) == (None, None, "Wax?", {})


def test_a_prescription_has_what_the_guideline_asks_for(store: Store, referred: Referred) -> None:
    said = said_on(prescription_of(store, referred.name, referred.answered()))
    for part in ("Doctor: Dr Sunita Rao", "Qualification: MBBS, MD", "Registration number: KMC-12345", "Name: आशा Devi",
                 "34 years · Female", "House 4, near the well, Rampur", "Mode: Video", "first consultation",
                 "Diagnosis: Incomplete abortion", "Examination: Pale. Abdomen soft.", "Complaints: Bleeding",
                 "TRANEXAMIC ACID | tablet · 500 mg · 1 tablet · by mouth · three times a day · 5 days | after food",
                 "ओआरएस | 1 packet · 2 days", "Advice: Send her at once.", "Come again in days: 3",
                 "Digitally signed in the system by Dr Sunita Rao on 2 Feb 2026", "teleconsultation"):  # fmt: skip
        assert part in said, part
    assert "Weight" not in said.partition("Findings")[0]


def test_whoever_hands_a_drug_out_reads_why_it_is_given_in_spite_of_an_allergy(
    store: Store, referred: Referred
) -> None:
    line = {"drug": "Amoxicillin", "dose": "1 capsule", "days": 5, "allergy_reason": "Tolerated it in May"}
    paper = prescription_of(store, referred.name, referred.answered(prescription=[line]))
    (drugs,) = [part for part in paper.parts if isinstance(part, Drugs)]
    assert [drug.in_spite for drug in drugs.lines] == ["In spite of the allergy: Tolerated it in May"]
    silent = msgspec.structs.replace(drugs, lines=[msgspec.structs.replace(one, in_spite="") for one in drugs.lines])
    without = msgspec.structs.replace(paper, parts=[silent if part is drugs else part for part in paper.parts])
    drawn = [glyphs(drawing.draw(one, "A5")) for one in (paper, without)]
    assert drawn[0] - drawn[1] == len("In spite of the allergy: Tolerated it in May")


def test_a_childs_weight_stands_with_the_patient(store: Store) -> None:
    child = Referred.make(store, birth={"date": "2024-01-05", "precision": "day"})
    said = said_on(prescription_of(store, child.name, child.answered()))
    assert "Weight: 52 kg (2 Feb 2026)" in said.partition("Findings")[0]
    assert "2 years" in said


def test_what_a_reply_does_not_say_of_its_doctor_the_directory_does(store: Store, referred: Referred) -> None:
    known = {
        "name": "Dr Rao",
        "role": "doctor",
        "qualification": "MBBS",
        "registration_number": "K-1",
        "phone": "0755 1",
    }
    arrive(store, "person", known, 1, record=DOCTOR, patient=DOCTOR)
    reply = referred.answered(doctor=None, qualification=None, registration_number=None)
    said = said_on(prescription_of(store, referred.name, reply))
    for part in ("Doctor: Dr Rao", "Qualification: MBBS", "Registration number: K-1", "Phone: 0755 1"):
        assert part in said


def test_the_hospital_and_whom_to_call_there_stand_on_both_papers(store: Store, referred: Referred) -> None:
    told: dict[str, Any] = {"name": "HWC Rampur", "district": "Sehore", "hub_name": "District Hospital Sehore"}
    contact = {"duty_contacts/obstetrics": {"present": True, "details": {"name": "Dr Duty", "phone": "07562 1"}}}
    arrive(store, "facility", told | contact, 1, origin=Writer.HUB)
    for paper in (slip_of(store, referred.name), prescription_of(store, referred.name, referred.answered())):
        said = said_on(paper)
        for part in (
            "HWC Rampur (HWC000001), Sehore",
            "Hospital: District Hospital Sehore",
            "To call there: Dr Duty · 07562 1",
        ):
            assert part in said, part


def test_what_was_measured_after_the_answer_is_no_finding_of_it(store: Store, referred: Referred) -> None:
    reply = referred.answered()
    later = {"pulse_bpm": 66, "temperature_c": 36.5, "at": NOW_MS + 9 * DAY_MS}
    write(store, PERSON, "vitals", later, patient=referred.patient)
    said = said_on(prescription_of(store, referred.name, reply, NOW_MS + 10 * DAY_MS))
    assert "118 /min" in said
    assert "66 /min" not in said


def test_values_of_long_ago_are_not_told_as_if_they_were_of_today(store: Store) -> None:
    own = write(store, PERSON, "patient", PATIENT).record
    write(store, PERSON, "vitals", {"weight_kg": 70, "pulse_bpm": 70, "at": NOW_MS - 900 * DAY_MS}, patient=own)
    write(store, PERSON, "vitals", {"pulse_bpm": 90, "at": NOW_MS}, patient=own)
    key = write(store, PERSON, "referral", {"specialty": "ent", "urgency": "routine", "reason": "x"}, patient=own)
    paper = slip_of(store, key.record.hex())
    assert "90 /min" in said_on(paper)
    assert "70 kg" not in said_on(paper)


def test_an_answer_that_was_corrected_says_so_and_so_does_its_correction(store: Store, referred: Referred) -> None:
    first = referred.answered()
    later = referred.answered(9, corrects=parse_id(first), correction_reason="wrong dose")
    assert "REPLACED by the answer of" in marks(prescription_of(store, referred.name, first))
    told = marks(prescription_of(store, referred.name, later))
    assert "This replaces the answer of" in told
    assert "wrong dose" in told


def test_an_answer_that_was_withdrawn_is_never_printed_without_that_mark(store: Store, referred: Referred) -> None:
    reply = referred.answered()
    hidden = {"entered_in_error": {"hidden": True, "reason": "another patient", "shown": _live(store, referred, reply)}}
    arrive(store, "reply", hidden, 8, record=parse_id(reply), patient=referred.patient, origin=Writer.DOCTOR)
    told = marks(prescription_of(store, referred.name, reply))
    assert told.startswith("WITHDRAWN")
    assert "another patient" in told


def _live(store: Store, referred: Referred, reply: str) -> list[bytes]:
    (kept,) = [one for one in store.patient_records(PatientId(referred.patient)) if one.key.record == parse_id(reply)]
    return list(kept.record.changes)


def test_a_referral_that_was_withdrawn_says_so_on_each_of_its_papers(store: Store, referred: Referred) -> None:
    reply = referred.answered()
    patient, name = PatientId(referred.patient), RecordId(referred.referral.record)
    Visiting(store, PERSON).withdraw(patient, name, "went by bus", "shown", NOW_MS)
    for paper in (slip_of(store, referred.name), prescription_of(store, referred.name, reply)):
        assert "This referral was withdrawn.\nwent by bus" in marks(paper)


def test_there_is_no_paper_of_what_is_not_here(store: Store, referred: Referred) -> None:
    other = Referred.make(store)
    reply = other.answered()
    for name in (referred.name, "00" * 16, "x"):
        with pytest.raises(HealthSyncError):
            prescription_of(store, name, reply)
    with pytest.raises(HealthSyncError):
        slip_of(store, "00" * 16)


# -- as a PDF ----------------------------------------------------------------------------------------------------------


def paper_of(*parts: Part, foot: str = "") -> Paper:
    return Paper("en", "a-paper", "", "", parts, foot, "", "Cut here.", NOW_MS)


def streams(pdf: bytes) -> list[bytes]:
    """What a PDF's streams hold."""
    found = []
    for raw in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL):
        try:
            found.append(zlib.decompress(raw))
        except zlib.error:
            found.append(raw)
    return found


def glyphs(pdf: bytes) -> int:
    """How many letters are drawn, shaped as they are: each has two bytes."""
    drawn = b"".join(one for one in streams(pdf) if b" Tf" in one)
    texts = re.findall(rb"\(((?:\\.|[^\\()])*)\)", drawn, re.DOTALL)
    return sum(len(re.sub(rb"\\(.)", rb"\1", one, flags=re.DOTALL)) for one in texts) // 2


def pages(pdf: bytes) -> int:
    return len(re.findall(rb"/Type /Page\b", pdf))


@pytest.mark.parametrize(
    ("text", "count"),
    [("क्षि", 2), ("र्क", 2), ("श्री", 2), ("கொ", 3), ("க்ஷ", 1), ("క్ష", 1), ("ಕ್ಷ", 1), ("Asha", 4), ("क", 1)],
)
def test_letters_are_shaped(text: str, count: int) -> None:
    """A conjunct is one glyph, a reph stands above its neighbour, a split vowel sign on both sides of its consonant."""
    assert glyphs(drawing.draw(paper_of(Text(text)), "A5")) == count


def test_one_line_holds_every_script(store: Store) -> None:
    text = "Asha आशा ஆஷா ఆశా ಆಶಾ"
    raw = drawing.draw(paper_of(Text(text)), "A4")
    for font in drawing.FONTS:
        assert font.encode() in raw
    assert letters.runs(text, coverage()) == (
        letters.Run("NotoSans", "Asha "),
        letters.Run("NotoSansDevanagari", "आशा "),
        letters.Run("NotoSansTamil", "ஆஷா "),
        letters.Run("NotoSansTelugu", "ఆశా "),
        letters.Run("NotoSansKannada", "ಆಶಾ"),
    )


@cache
def coverage() -> dict[str, frozenset[int]]:
    folder = Path(drawing.__file__).parents[1] / "fonts"
    return {name: frozenset(TTFont(folder / f"{name}-Regular.ttf").getBestCmap()) for name in drawing.FONTS}


words = st.text(st.sampled_from("ab 5,.क्षिर्\u200d\u200cகொక్ಕ🙂中\u202e\x07\u0301\n{}"), max_size=60)


@given(words, st.integers(1, 30))
@example(HOSTILE, 20)
def test_nothing_of_a_text_is_lost_and_no_line_is_too_wide(text: str, width: int) -> None:
    """But for blanks at breaks, and joiners that join nothing that could be drawn."""
    made = list(letters.lines(text, width, coverage(), lambda cluster: 1.0))
    drawn = "".join(run.text for line in made for run in line)
    assert _letters(drawn) == _letters(text)
    for line in made:
        assert sum(1 for _ in letters.clusters("".join(run.text for run in line))) <= max(width, 1)
        for run in line:
            assert not run.font or all(ord(one) in coverage()[run.font] or one in letters.JOINERS for one in run.text)


def _letters(text: str) -> str:
    return re.sub(f"[\\s{letters.JOINERS}]", "", text)


def test_what_no_font_has_and_what_would_turn_a_line_is_a_visible_box() -> None:
    boxes = [run.text for run in letters.runs("a\u202eb🙂c中\x07\u200b", coverage()) if not run.font]
    assert boxes == ["\u202e", "🙂", "中\x07\u200b"]
    plain, boxed = (drawing.draw(paper_of(Text(text)), "A5") for text in ("ab", "a🙂b"))
    assert glyphs(plain) == glyphs(boxed) == 2
    assert b"".join(streams(boxed)).count(b" re S") == 1


def test_braces_percent_signs_and_markup_are_letters_like_others() -> None:
    for text in ("{nb}", "%(number)s", "**bold**", "<b>x</b>"):
        assert glyphs(drawing.draw(paper_of(Text(text), foot=text), "A5")) == 2 * len(text)


def test_pages_are_numbered_and_bounded_and_a_cut_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    paper = msgspec.structs.replace(paper_of(Text("a\n" * 500)), page_words="%(number)s/%(pages)s")
    whole = drawing.draw(paper, "A5")
    assert pages(whole) > 10
    monkeypatch.setattr(drawing, "MAX_PAGES", 2)
    cut = drawing.draw(paper, "A5")
    assert pages(cut) == 2
    assert glyphs(cut) > glyphs(drawing.draw(msgspec.structs.replace(paper, too_long=""), "A5"))


def test_the_same_paper_gives_the_same_bytes(store: Store, referred: Referred) -> None:
    paper = slip_of(store, referred.name)
    first = making.pdf(paper, "A5")
    assert first == making.pdf(slip_of(store, referred.name), "A5") == drawing.draw(paper, "A5")
    assert first != making.pdf(paper, "A4")
    assert pages(first) <= 2
    assert b"Penicillin" not in first


def test_the_code_on_a_pdf_has_the_size_that_phones_read() -> None:
    assert drawing.CODE_MM / (97 + 2 * 4) > 0.5
    assert drawing.PAGE_MM["A5"][0] - 2 * drawing.MARGIN_MM > drawing.CODE_MM


@pytest.mark.parametrize(
    ("program", "code", "patience_s"),
    [
        ("import sys; sys.exit(3)", "E_PRINT", 120.0),
        ("print('no paper')", "E_PRINT", 120.0),
        ("import sys; sys.stderr.write('E_NO_FONTS'); sys.exit(1)", "E_NO_FONTS", 120.0),
        ("import time; time.sleep(60); print('%PDF-')", "E_PRINT", 1.0),
        ("import os; assert not [one for one in os.environ if one.startswith('HWC')]; print('%PDF-')", "", 120.0),
    ],
)
def test_whatever_befalls_the_program_that_draws_is_told_with_a_code(
    program: str, code: str, patience_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "PROGRAM", ("-c", program))
    monkeypatch.setattr(making, "PATIENCE_S", patience_s)
    monkeypatch.setenv("HWC_PASSPHRASE", "four words make sense")
    try:
        assert making.pdf(paper_of(Text("x")), "A5").startswith(b"%PDF-")
        found = ""
    except OurFault as error:
        found = error.code
    assert found == code


def test_a_paper_too_large_is_not_begun() -> None:
    with pytest.raises(OurFault) as caught:
        making.pdf(paper_of(Text("x" * 1_100_000)), "A5")
    assert caught.value.code == "E_PRINT"


def test_what_shapes_letters_is_not_loaded_by_the_pages() -> None:
    """It takes 60 MB, which a centre's server does not have to spare."""
    loaded = "import sys, hwc_node.web, hwc_node.printing.making; print(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", loaded], capture_output=True, check=True, text=True).stdout.split()
    assert "hwc_node.printing.making" in said
    assert not {"fpdf", "uharfbuzz", "fontTools", "PIL"} & set(said)


# -- as pages ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def centre(tmp_path: Path) -> Centre:
    return Centre(make_home(tmp_path))


def test_a_slip_and_a_prescription_are_pages_and_pdfs(centre: Centre) -> None:
    referred = Referred.make(centre.store)
    reply, window = referred.answered(), centre.window_of()
    referral = window.get(f"/referrals/{referred.name}").text
    for path, name, size in (
        (f"/referrals/{referred.name}/slip", f"referral-{referred.name[-8:]}", "A4"),
        (f"/referrals/{referred.name}/prescription/{reply}", f"prescription-{reply[-8:]}", "huge"),
    ):
        assert f'href="{path}"' in referral
        page = window.get(path)
        assert page.status_code == 200
        assert "आशा Devi" in page.text
        assert "style=" not in page.text
        answer = window.get(f"{path}/pdf?size={size}")
        assert answer.headers["content-type"] == "application/pdf"
        assert answer.headers["content-disposition"] == f'inline; filename="{name}.pdf"'
        assert answer.headers["cache-control"] == "no-store"
        assert answer.content.startswith(b"%PDF-")
    assert '<svg role="img"' in window.get(f"/referrals/{referred.name}/slip").text


def test_hostile_text_is_inert_and_whole_on_a_page(centre: Centre) -> None:
    referred = Referred.make(centre.store, name=HOSTILE[:200], address=HOSTILE)
    text = centre.window_of().get(f"/referrals/{referred.name}/slip").text
    assert "<b>x" not in text
    assert "&lt;b&gt;x&lt;/b&gt; {nb} %(number)s" in text
    assert "\u202e" not in text
    assert "long" * 90 in text


def test_labels_are_in_the_readers_language_and_content_as_written(centre: Centre) -> None:
    referred = Referred.make(centre.store)
    window = centre.window_of()
    window.client.cookies.set("language", "hi")
    text = window.get(f"/referrals/{referred.name}/slip").text
    assert language.words_of("hi").gettext("Emergency") in text
    assert "Bleeding since morning" in text


def test_a_pdf_that_cannot_be_made_is_told_and_the_page_stays(centre: Centre, monkeypatch: pytest.MonkeyPatch) -> None:
    referred, window = Referred.make(centre.store), centre.window_of()
    monkeypatch.setattr(making, "PROGRAM", ("-c", "raise SystemExit(9)"))
    answer = window.get(f"/referrals/{referred.name}/slip/pdf")
    assert answer.status_code == 503
    assert "E_PRINT" in answer.text
    assert "आशा" not in answer.text
