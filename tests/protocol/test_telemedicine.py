"""What may be prescribed at a distance: the lists, by mode and first or follow-up; names as people type them; allergies."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_protocol import telemedicine
from sync_protocol.telemedicine import DrugList, allergies, drugs
from sync_protocol.telemedicine.naming import TABLES, read, recognise, words_of

MODES: Final = ("text", "audio", "video")


def line(drug: str, **more: str) -> dict[str, Any]:
    return {"drug": drug, "dose": "1", "days": 3, **more}


def codes(drug: str, mode: str = "video", *, first: bool = True, allergic: str = "", reason: str = "") -> list[str]:
    lines = [line(drug, **({"allergy_reason": reason} if reason else {}))]
    known = {allergic: allergic} if allergic else {}
    return [one.code for one in telemedicine.objections(lines, mode, first=first, allergic_to=known)]


def allowed(drug: str) -> set[tuple[str, str]]:
    """(mode, first or follow-up) in which a drug can be prescribed."""
    return {
        (mode, word)
        for mode in MODES
        for word, first in (("first", True), ("follow-up", False))
        if not codes(drug, mode, first=first)
    }


FOLLOW_UP: Final = {(mode, "follow-up") for mode in MODES}
ANY: Final = FOLLOW_UP | {(mode, "first") for mode in MODES}
VIDEO_FIRST: Final = FOLLOW_UP | {("video", "first")}


@pytest.mark.parametrize(
    ("drug", "expected"),
    [
        ("Paracetamol 500 mg tablet", ANY),
        ("ORS", ANY),
        ("Chloroquine phosphate", ANY),
        ("Clotrimazole cream 1%", VIDEO_FIRST),
        ("Enalapril maleate 5mg", VIDEO_FIRST),
        ("Metformin SR", VIDEO_FIRST),
        ("Clonazepam 0.5", VIDEO_FIRST),  # since 11 April 2020
        ("Sitagliptin 50 mg", FOLLOW_UP),
        ("Ceftriaxone injection 1 gm", FOLLOW_UP),
        ("Xylomycephrinol", FOLLOW_UP),  # in no table
        ("Alprazolam", set()),
        ("Morphine sulphate", set()),
        ("Ketamine", set()),
    ],
)
def test_a_list_is_a_matter_of_mode_and_of_first_or_follow_up(drug: str, expected: set[tuple[str, str]]) -> None:
    assert allowed(drug) == expected


@pytest.mark.parametrize("mode", [None, 7, "in_person"])
def test_a_mode_that_is_none_counts_as_no_video(mode: Any) -> None:
    assert [one.code for one in telemedicine.objections([line("Enalapril")], mode, first=True)] == [
        "E_DRUG_NEEDS_VIDEO"
    ]


@pytest.mark.parametrize(
    ("drug", "said"),
    [
        (
            "tab. ALPRAX 0.5mg",
            "Alprazolam cannot be prescribed by telemedicine: it is a psychotropic substance (NDPS Act).",
        ),
        ("Corex syrup", "Codeine cannot be prescribed by telemedicine: it is a narcotic drug (NDPS Act)."),
        (
            "Methylphenidate 10",
            "Methylphenidate cannot be prescribed by telemedicine: it is on Schedule X (Drugs and Cosmetics Rules).",
        ),
    ],
)
def test_a_refusal_says_the_rule_in_a_sentence(drug: str, said: str) -> None:
    (one,) = telemedicine.objections([line(drug)], "video", first=False)
    assert (one.code, one.said % one.values, one.plain) == ("E_DRUG_PROHIBITED", said, said)


@pytest.mark.parametrize(
    "drug",
    [
        "Paracetamol + Tramadol",
        "Paracetamol/Codeine",
        "Ultracet",
        "Paracetamol with dextropropoxyphene",
        "Dicyclomine, Chlordiazepoxide",
        "paracetamol lorazepam",
        "PARACETAMOL 325mg+TRAMADOL37.5mg",
    ],
)
def test_the_strictest_part_of_a_combination_counts(drug: str) -> None:
    assert codes(drug, first=False) == ["E_DRUG_PROHIBITED"]


def test_a_part_that_nobody_knows_does_not_pass_with_one_that_is_known() -> None:
    assert codes("Paracetamol + Xylofoobin") == ["E_DRUG_FOLLOW_UP_ONLY"]
    assert codes("Paracetamol xylofoobin") == ["E_DRUG_FOLLOW_UP_ONLY"]


@pytest.mark.parametrize("drug", ["Paracetamol + QZJ", "ORS, BX7", "Folic acid QZ", "Zinc/Z2", "PCM+H2"])
def test_a_part_that_is_not_known_is_none_however_short_it_is(drug: str) -> None:
    assert [codes(drug, mode) for mode in MODES] == [["E_DRUG_FOLLOW_UP_ONLY"]] * 3


@pytest.mark.parametrize(
    ("drug", "names", "expected"),
    [
        ("Folic acid + MTX 7.5 mg", ("folic acid", "methotrexate"), FOLLOW_UP),
        ("Paracetamol + HCQ", ("paracetamol", "hydroxychloroquine"), FOLLOW_UP),
        ("Folic acid, 6MP", ("folic acid", "mercaptopurine"), FOLLOW_UP),
        ("6-MP", ("mercaptopurine",), FOLLOW_UP),
        ("ORS + AZT", ("ors", "zidovudine"), FOLLOW_UP),
        ("INH 300", ("isoniazid",), FOLLOW_UP),
        ("HRZE", ("isoniazid", "rifampicin", "pyrazinamide", "ethambutol"), FOLLOW_UP),
        ("3TC", ("lamivudine",), FOLLOW_UP),
        ("TMP-SMX DS", ("trimethoprim", "sulfamethoxazole"), VIDEO_FIRST),
        ("5-ASA 400mg", ("mesalazine",), VIDEO_FIRST),
        ("Diclo 50", ("diclofenac",), VIDEO_FIRST),
        ("PCM", ("paracetamol",), ANY),
        ("Vit B1 + vit B6 + B12", ("thiamine", "pyridoxine", "vitamin b12"), ANY),
        ("Calcium 500 + D3", ("calcium", "vitamin d"), ANY),
        ("Paracetamol + LSD", ("paracetamol", "lysergide"), set()),
    ],
)
def test_abbreviations_are_known_as_what_they_are(
    drug: str, names: tuple[str, ...], expected: set[tuple[str, str]]
) -> None:
    assert (recognise(drug).drugs, recognise(drug).unknown, allowed(drug)) == (names, (), expected)


@pytest.mark.parametrize(
    "drug",
    [
        "T. Paracetamol 500 mg 1-0-1 x 5d PRN",
        "PCM 650mg q6h p.o. SOS",
        "Paracetamol susp. 120mg/5mL 1x60ml, 2.5mlx5",
        "ORS 1 L w/v 10x10",
        "Zinc ½ tab OD 14 days",
        "Vitamin B12 500 µg",
        "Paracetamol inj. i/m 2cc st",
        "Ferrous salts (A) + Folic acid (B) 20 mg to 100 ug IP/BP/USP",
        "Paracetamol ५०० mg",
    ],
)
def test_units_numbers_forms_and_strengths_say_nothing(drug: str) -> None:
    assert recognise(drug).unknown == ()
    assert allowed(drug) == ANY


@pytest.mark.parametrize("drug", ["alprazolm", "Diazepan", "codiene", "Tramodol", "morfine", "Lorazepma"])
def test_what_is_one_letter_from_a_prohibited_name_is_refused_as_that(drug: str) -> None:
    assert codes(drug, first=False) == ["E_DRUG_PROHIBITED"]


@pytest.mark.parametrize("drug", ["ट्रामाडोल", "Аlprazolam", "Paracetamol + डायजेपाम"])
def test_what_cannot_be_looked_up_is_refused(drug: str) -> None:
    assert codes(drug, first=False) == ["E_DRUG_NOT_READABLE"]  # the second has a Cyrillic first letter


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        ("Acetaminophen", ("paracetamol",)),
        ("albuterol sulfate inhaler", ("salbutamol",)),
        ("Frusemide", ("furosemide",)),
        ("Amoxycillin trihydrate 500mg cap", ("amoxicillin",)),
        ("AMOXICILLIN", ("amoxicillin",)),
        ("Sulphamethoxazole/Trimethoprim", ("sulfamethoxazole", "trimethoprim")),
        ("Cetrizine", ("cetirizine",)),
        ("T. Crocin 650", ("paracetamol",)),
        ("Combiflam", ("ibuprofen", "paracetamol")),
        ("Augmentin 625", ("amoxicillin", "clavulanic acid")),
        ("Ferrous sulphate", ("iron",)),
        ("Magnesium sulphate", ("magnesium sulfate",)),
        ("Sodium valproate CR", ("sodium valproate",)),
        ("Telmisartan-Amlodipine", ("telmisartan", "amlodipine")),
        ("Vitamin B12", ("vitamin b12",)),
        ("Losartan-Hydrochlorathiazide", ("losartan", "hydrochlorothiazide")),
    ],
)
def test_spellings_salts_brands_and_combinations_are_recognised(typed: str, names: tuple[str, ...]) -> None:
    found = recognise(typed)
    assert (found.drugs, found.unknown) == (names, ())


def test_no_two_drugs_are_one_and_each_stands_on_one_list() -> None:
    meant: dict[tuple[str, ...], set[str]] = {}
    names = Counter[str]()
    for table in TABLES:
        for name, others in read(getattr(drugs, table)):
            names[name] += 1
            for one in (name, *others):
                meant.setdefault(tuple(words_of(one)), set()).add(name)
    for short, (made_of,) in (*read(drugs.BRANDS), *read(drugs.ABBREVIATIONS)):
        meant.setdefault(tuple(words_of(short)), set()).add(made_of)
    assert {words: found for words, found in meant.items() if len(found) > 1} == {}
    assert [name for name, times in names.items() if times > 1] == []
    assert len(names) > 400


def test_what_brands_and_classes_name_is_in_the_table() -> None:
    known = {name for table in TABLES for name, _ in read(getattr(drugs, table))}
    short = (*read(drugs.BRANDS), *read(drugs.ABBREVIATIONS))
    made_of = {part.strip() for _, others in short for one in others for part in one.split("+")}
    members = {one for _, others in read(allergies.CLASSES) for one in others}
    in_hindi = {name for name, _ in read(allergies.DRUGS_IN_HINDI)}
    assert (made_of | members | in_hindi) - known == set()
    classes = {name for name, _ in read(allergies.CLASSES)}
    assert {name for name, _ in read(allergies.WORDS)} <= classes
    assert set(allergies.CROSSES) | {one for crossed in allergies.CROSSES.values() for one in crossed} <= classes


def test_every_drug_of_the_table_is_recognised_by_each_of_its_names() -> None:
    for table in TABLES:
        for name, others in read(getattr(drugs, table)):
            for one in (name, *others):
                found = recognise(f"Tab. {one} 10mg")
                assert (found.drugs, found.unknown) == ((name,), ()), one
    for short, (made_of,) in read(drugs.ABBREVIATIONS):
        found = recognise(f"Tab. {short} 10mg")
        assert (found.drugs, found.unknown) == (tuple(made_of.split(" + ")), ()), short


@given(st.text(max_size=1_200))
def test_whatever_is_typed_is_answered(text: str) -> None:
    found = recognise(text)
    assert isinstance(telemedicine.list_of(found), DrugList)
    telemedicine.objections([line(text), None, {"drug": 7}, text], "video", first=True, allergic_to={text: text})


@given(st.sampled_from(["alprazolam", "tramadol", "codeine", "ketamine", "zolpidem"]), st.text(max_size=20))
def test_nothing_typed_behind_a_prohibited_name_makes_it_pass(name: str, more: str) -> None:
    (refused,) = codes(f"{name} {more}", first=False)
    assert refused == "E_DRUG_PROHIBITED"


# -- allergies ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allergy", "drug", "crossing"),
    [
        ("Penicillin", "Amoxycillin 500", False),
        ("penicilin", "Augmentin", False),
        ("rash after inj. penicillin in 2019", "Ampicillin", False),
        ("पेनिसिलिन से एलर्जी", "Amoxicillin", False),
        ("Penicillin", "Cefixime", True),
        ("ceftriaxone", "Cefixime", False),
        ("cephalosporins", "Amoxicillin", True),
        ("sulfa", "Co-trimoxazole", False),
        ("Sulpha drugs", "Silver sulphadiazine cream", False),
        ("सल्फा", "Septran", False),
        ("Bactrim", "Sulfasalazine", False),
        ("sulfa", "Dapsone", True),
        ("aspirin", "Ibuprofen", False),
        ("Disprin", "Combiflam", False),
        ("दर्द की दवा", "Diclofenac", False),
        ("pain killers", "Voveran", False),
        ("aspirin", "Paracetamol", None),
        ("Paracetamol", "Crocin", False),
        ("dust, pollen", "Amoxicillin", None),
        ("iodine contrast", "Betadine gargle", False),
        ("ciplox", "Norfloxacin", False),
        ("PCN", "Amoxicillin", False),
        ("penicillen", "Amoxicillin", False),
        ("Penicillin", "Penicillin injection", False),
        ("Penicillin", "Cephalosporin 3rd gen", True),
        ("sulphur drugs", "Septran DS", False),
        ("local anaesthesia", "Lidocaine", False),
        ("reaction to local anesthesia at the dentist", "Xylocaine gel", False),
        ("सुन्न करने का इंजेक्शन", "Lignocaine", False),
        ("pain medicine", "Diclofenac", False),
        ("painkiller", "Diclofenac", False),
        ("dard ki dawai", "Diclofenac", False),
        ("दर्द की दवाइयाँ", "Ibuprofen", False),
        ("दर्द की सुई", "Diclofenac injection", False),
        ("pain in the belly after medicine", "Diclofenac", None),
        ("Mephenesin", "Mephenesin", False),
        ("Mephenesin", "tab. Mefenesine 500 mg", False),
        ("rash after Zyntab, 2019", "ZYNTAB 10", False),
        ("Zyntab", "Paracetamol + zyntab", False),
        ("Zyntab", "Zyntar", None),  # a short word with another letter may be anything
        ("allergy to dust", "Anti-allergy tablet", None),
    ],
)
def test_a_drug_of_the_kind_that_somebody_is_allergic_to_is_met(allergy: str, drug: str, crossing: bool | None) -> None:
    found = allergies.met(recognise(drug), allergies.understood({allergy: allergy}))
    if crossing is None:
        assert found == []
    else:
        assert {(one.allergy, one.crossing) for one in found} == {(allergy, crossing)}


def test_an_allergy_asks_for_a_reason_in_any_mode_and_at_a_follow_up_too() -> None:
    for mode in MODES:
        assert codes("Amoxicillin", mode, first=False, allergic="Penicillin") == ["E_ALLERGY"]
    assert codes("Amoxicillin", first=False, allergic="Penicillin", reason="Tolerated in May") == []
    assert codes("Amoxicillin", first=False, allergic="Penicillin", reason="  ") == ["E_ALLERGY"]


def test_what_is_wrong_with_a_line_is_told_whole() -> None:
    lines = [line("ORS"), line("Tramadol"), line("Cefixime")]
    found = telemedicine.objections(lines, "text", first=True, allergic_to={"Penicillin": "penicillin"})
    assert [(one.line, one.code) for one in found] == [
        (2, "E_DRUG_PROHIBITED"),
        (3, "E_DRUG_NEEDS_VIDEO"),
        (3, "E_ALLERGY"),
    ]


def test_an_error_says_neither_the_allergy_nor_what_was_typed() -> None:
    found = telemedicine.objections(
        [line("Amoxicillin"), line("Secretword")],
        "video",
        first=True,
        allergic_to={"Hidden text": "penicillin", "Hidden Secretword": "secretword"},
    )
    assert [one.code for one in found] == ["E_ALLERGY", "E_DRUG_FOLLOW_UP_ONLY", "E_ALLERGY"]
    assert "Hidden text" in found[0].said % found[0].values
    assert "Secretword" in found[1].said % found[1].values
    assert "“Hidden Secretword”, and Secretword is of that kind" in found[2].said % found[2].values
    assert not any(word in one.plain for one in found for word in ("Hidden", "Secretword"))


def test_a_patients_allergies_are_those_that_are_there_as_they_were_written() -> None:
    view: dict[str, Any] = {
        "name": "Asha",
        "allergies/penicillin": {"present": True, "details": {"text": "Penicillin (rash)"}},
        "allergies/sulfa": {"present": False},
        "allergies/snomed|387517004": {"present": True, "details": {"text": "Paracetamol"}},
        "allergies/dust": {"present": True},
        "allergies/odd": "not an element",
    }
    assert telemedicine.allergies_of(view) == {
        "dust": "dust",
        "Penicillin (rash)": "penicillin ; Penicillin (rash)",
        "Paracetamol": "snomed|387517004 ; Paracetamol",
    }
