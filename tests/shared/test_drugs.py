"""The drugs of a working health centre, and of a hypertension programme, as they stand in their own lists."""

from __future__ import annotations

import csv
import re
from typing import Final

from sync_protocol import telemedicine
from sync_protocol.telemedicine import PROHIBITED
from sync_protocol.telemedicine.naming import recognise
from tests.conftest import SHARED

CLINIC: Final = SHARED / "data" / "clinic"
PROHIBITED_THERE: Final = re.compile(
    "alprazolam|diazepam|lorazepam|mid[ao]zolam|nitrazepam|chlordiaz|fentanyl|morphine|pentazocine|tramadol|ketamine"
    "|diphenoxylate|codeine|pethidine|zolpidem|buprenorphine|dextropropoxyphene",
    re.IGNORECASE,
)
KNOWN_SHARE: Final = 0.88  # the others are cancer drugs, blood products, and drugs of Ayurveda and Unani


def inventory() -> list[tuple[str, str]]:
    """(name as the centre typed it, the drug it is)."""
    with (CLINIC / "drugs.csv").open(encoding="utf-8") as file:
        return [(row["Name"], row["Concept Drug"]) for row in csv.DictReader(file)]


def test_most_drugs_of_a_centre_are_recognised_as_they_are_typed() -> None:
    rows = inventory()
    known = sum(bool(recognise(name).drugs) for name, _ in rows)
    assert len(rows) > 1_400
    assert known / len(rows) > KNOWN_SHARE


def test_none_that_is_prohibited_slips_through_and_no_other_is_refused_as_prohibited() -> None:
    there = {name for name, drug in inventory() if PROHIBITED_THERE.search(f"{name} {drug}")}
    refused = {name for name, _ in inventory() if telemedicine.list_of(recognise(name)) in PROHIBITED}
    assert len(there) > 25
    assert refused == there


def test_the_programmes_drugs_may_be_refilled_and_begun_by_video() -> None:
    text = (CLINIC / "medications.yml").read_text(encoding="utf-8")
    names = sorted(set(re.findall(r"^  name: (.+)$", text, re.MULTILINE)))
    allowed = [
        name
        for name in names
        if not telemedicine.objections([{"drug": name}], "video", first=True)
        and not telemedicine.objections([{"drug": name}], "audio", first=False)
    ]
    assert len(names) == 40
    assert set(names) - set(allowed) == {"Sitagliptin", "Vildagliptin"}  # add-ons, as the guidelines say
