"""What a centre knows of itself: from the hub's record once it has come, from its enrolment before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hwc_node import directory
from hwc_node.store import Store
from sync_protocol.canonical import Value
from sync_protocol.directory import ANY, Contact, Particulars, fields_of
from sync_protocol.schema import Writer
from tests.node.enrolled_home import arrive, make_home

ENTRY, SECOND = b"the centre's own", b"a later one here"
TOLD = Particulars(
    "HWC Rampur Kalan",
    "Sehore",
    "Madhya Pradesh",
    "District Hospital Sehore",
    {"ent": Contact("Dr. Jain", "+91 98260 00001"), ANY: Contact("Casualty", "07562-222222")},
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with make_home(tmp_path).open() as opened:
        yield opened


def tell(store: Store, fields: dict[str, Value], at: int, record: bytes = ENTRY) -> None:
    arrive(store, "facility", fields, at, record=record, origin=Writer.HUB)


def test_before_the_hub_has_told_anything_there_is_the_enrolments_name_and_no_number(store: Store) -> None:
    assert directory.particulars(store) == Particulars(store.membership.facility_name, "", "", "", {})
    assert directory.duty_contact(store, "ent") is None


def test_what_the_hub_told_is_read_as_it_was_written(store: Store) -> None:
    tell(store, fields_of(TOLD), 1)
    assert directory.particulars(store) == TOLD
    assert directory.duty_contact(store, "ent") == Contact("Dr. Jain", "+91 98260 00001")
    assert directory.duty_contact(store, "surgery") == Contact("Casualty", "07562-222222")


def test_a_contact_that_is_gone_or_has_no_number_is_none(store: Store) -> None:
    odd: dict[str, Value] = {
        "name": "HWC Rampur",
        "duty_contacts/ent": {"present": False},
        "duty_contacts/surgery": {"present": True, "details": {"name": "Dr. Jain"}},
        "duty_contacts/eye": {"present": True, "details": {"name": 7, "phone": "104"}},
        "duty_contacts/skin": {"present": True},
        "duty_contacts/heart": "104",
        "district": 7,
    }
    tell(store, odd, 1)
    assert directory.particulars(store) == Particulars("HWC Rampur", "", "", "", {"eye": Contact("", "104")})


def test_of_two_records_the_one_that_was_written_last_counts(store: Store) -> None:
    tell(store, fields_of(TOLD), 2)
    tell(store, {"name": "HWC Rampur"}, 1, SECOND)
    assert directory.particulars(store).name == "HWC Rampur Kalan"
    tell(store, {"district": "Raisen"}, 3, SECOND)
    assert (directory.particulars(store).name, directory.particulars(store).district) == ("HWC Rampur", "Raisen")
