"""A centre's entry in the directory: what the hub tells it of itself, and whom it calls (PROTOCOL.md §5).

The hub writes the record, in a scope of its own and into that centre's feed alone; a centre reads it. A contact is an
element of the family ``duty_contacts``: one for a specialty, one for any that has none of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sync_protocol.canonical import Value
from sync_protocol.merge import Record
from sync_protocol.schema import SET_SEPARATOR

KIND: Final = "facility"
CONTACTS: Final = "duty_contacts"
ANY: Final = "any"  # the key of the contact for specialties that have none; no specialty is called so


@dataclass(frozen=True, slots=True)
class Contact:
    """Who is called where nobody answers."""

    name: str
    phone: str


@dataclass(frozen=True, slots=True)
class Particulars:
    """What an entry says. hub_name: of the hospital, empty for none. contacts: specialty, or ANY → who is called."""

    name: str
    district: str
    state: str
    hub_name: str
    contacts: Mapping[str, Contact]

    def contact_for(self, specialty: str) -> Contact | None:
        """The specialty's own, else the one for any; None where nobody was named."""
        return self.contacts.get(specialty) or self.contacts.get(ANY)


def fields_of(said: Particulars) -> dict[str, Value]:
    """As the record's fields."""
    plain: dict[str, Value] = {
        "name": said.name,
        "district": said.district,
        "state": said.state,
        "hub_name": said.hub_name,
    }
    return plain | {
        f"{CONTACTS}{SET_SEPARATOR}{key}": {"present": True, "details": {"name": one.name, "phone": one.phone}}
        for key, one in said.contacts.items()
    }


def particulars_of(record: Record) -> Particulars:
    """What a record says, whatever it is: what is no text reads as empty, a contact without a number as none."""
    view = record.view()

    def text(name: str) -> str:
        said = view.get(name)
        return said if isinstance(said, str) else ""

    contacts = {}
    for field, value in view.items():
        family, _, key = field.partition(SET_SEPARATOR)
        details = value.get("details") if isinstance(value, dict) and value.get("present") is True else None
        if family == CONTACTS and isinstance(details, dict):
            name, phone = details.get("name"), details.get("phone")
            if isinstance(phone, str) and phone:
                contacts[key] = Contact(name if isinstance(name, str) else "", phone)
    return Particulars(text("name"), text("district"), text("state"), text("hub_name"), contacts)
