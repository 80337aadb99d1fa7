"""What the hub tells this centre of itself: its name, its hospital, and whom it calls where nobody answers.

Read from the record that the hub wrote. Before it has come, the name is that of the enrolment, and there is no number.
"""

from __future__ import annotations

from hwc_node.store import Store
from sync_protocol import directory
from sync_protocol.directory import Contact, Particulars


def particulars(store: Store) -> Particulars:
    """Of this centre."""
    member = store.membership
    return _entry(store, member.facility) or Particulars(member.facility_name, "", "", "", {})


def _entry(store: Store, facility: str) -> Particulars | None:
    """Where a hub that was put back has begun a second record, the one that was written last counts."""
    found = [one for one in store.records(kind=directory.KIND) if one.facility == facility]
    return directory.particulars_of(max(found, key=lambda one: one.kept[-1].held.order).record) if found else None


def facility_name(store: Store, facility: str) -> str:
    """What a centre is called; empty where nothing here knows it."""
    if facility == store.membership.facility:
        return particulars(store).name
    entry = _entry(store, facility)
    return entry.name if entry is not None else ""


def duty_contact(store: Store, specialty: str) -> Contact | None:
    """Whom to call about a referral of this specialty; None where nobody was named."""
    return particulars(store).contact_for(specialty)
