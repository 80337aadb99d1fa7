"""What the hub tells this centre of itself: its name, its hospital, and whom it calls where nobody answers.

Read from the record that the hub wrote. Before it has come, the name is that of the enrolment, and there is no number.
"""

from __future__ import annotations

from hwc_node.store import Store
from sync_protocol import directory
from sync_protocol.directory import Contact, Particulars


def particulars(store: Store) -> Particulars:
    """Of this centre. Where a hub that was put back has begun a second record, the one that was written last counts."""
    member = store.membership
    found = [one for one in store.records(kind=directory.KIND) if one.facility == member.facility]
    if not found:
        return Particulars(member.facility_name, "", "", "", {})
    return directory.particulars_of(max(found, key=lambda one: one.kept[-1].held.order).record)


def duty_contact(store: Store, specialty: str) -> Contact | None:
    """Whom to call about a referral of this specialty; None where nobody was named."""
    return particulars(store).contact_for(specialty)
