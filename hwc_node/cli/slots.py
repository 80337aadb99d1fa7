"""`hwc key`: who may unlock this node. Each person has a slot of their own, opened by their own passphrase.

Adding asks for the passphrase of somebody who has one already, removing too: the file of slots alone gives nobody
anything. A slot's removal does not change the key of the database, so a copy of the file from before still opens it.
"""

from __future__ import annotations

import os
from typing import Annotated, Any, Final

import typer

from hwc_node import enrolment, keystore
from hwc_node.cli import console, opening
from hwc_node.cli.opening import AsJson
from hwc_node.keystore import Slot
from sync_protocol import documents
from sync_protocol.change import PersonId
from sync_protocol.errors import InvalidValue

NEW_PASSPHRASE_VARIABLE: Final = "HWC_NEW_PASSPHRASE"

Name = Annotated[str, typer.Argument(metavar="NAME", help="The person's name, as colleagues know them.")]
Which = Annotated[str, typer.Argument(metavar="NAME", help="The slot's name, or its id from 'hwc key list'.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def list_slots(as_json: AsJson = False) -> None:
    """\b
    Examples:
      hwc key list
      hwc key list --json | jq -r '.slots[].name'

    List the people who can unlock this node. Asks for no passphrase: the names of slots are no secret.
    """
    found = keystore.slots(opening.configured().slots_path)
    if as_json:
        console.document("hwc.key/1", {"slots": [_shape(one) for one in found]})
        return
    console.table(("name", "opened by", "id"), [(one.name or "-", one.kind, one.slot_id) for one in found])


def _shape(slot: Slot) -> dict[str, Any]:
    person = documents.id_text(slot.person) if slot.person is not None else None
    return {"id": slot.slot_id, "kind": slot.kind, "name": slot.name, "person": person}


def add(name: Name, as_json: AsJson = False) -> None:
    """\b
    Examples:
      hwc key add "Ramesh Kumar"
      HWC_PASSPHRASE_FD=3 HWC_NEW_PASSPHRASE_FD=4 hwc key add "Ramesh Kumar" 3<mine 4<theirs

    Give another person a slot: asks for your passphrase first, then twice for theirs.

    From then on they unlock this node with it, and are the author of what they write. Four unrelated words are a good
    passphrase; a PIN of six digits is refused, since it falls in minutes to one graphics card.
    """
    with opening.desk() as at:
        keystore.checked_name(name)
        new = _new_passphrase(f"{name}'s passphrase, four words or more: ")
        person = PersonId(enrolment.time_ordered_id(opening.now_ms()))
        slot = keystore.add_slot(at.config.slots_path, at.unlocked.key, person, name, new)
        enrolment.introduce(at.store, person, slot.name or name, opening.now_ms())
    if as_json:
        console.document("hwc.key/1", {"slots": [_shape(slot)]})
        return
    console.text(f"{slot.name} can unlock this node now")


def remove(which: Which, yes: Yes = False, as_json: AsJson = False) -> None:
    """\b
    Examples:
      hwc key remove "Ramesh Kumar"
      hwc key remove 4f1c22ab90de77aa --yes

    Take a person's slot away. What they wrote stays theirs. The last slot that a passphrase opens is never removed.

    The key of the database stays as it is: who copied the file of slots before can still open a copy of the database
    with the old passphrase. After a theft have the node revoked at the hub instead.
    """
    with opening.desk() as at:
        slot = _found(keystore.slots(at.config.slots_path), which)
        if not yes:
            opening.confirm(f"{slot.name or slot.slot_id} will not be able to unlock this node any more. Go on?")
        gone = keystore.remove_slot(at.config.slots_path, slot.slot_id)
    if as_json:
        console.document("hwc.key/1", {"removed": _shape(gone)})
        return
    console.text(f"{gone.name or gone.slot_id} cannot unlock this node any more")


def change(as_json: AsJson = False) -> None:
    """\b
    Examples:
      hwc key change
      HWC_PERSON_NAME="Asha Devi" hwc key change

    Change your own passphrase: asks for the one you have, then twice for the new one.
    """
    path = opening.configured().slots_path
    keystore.slots(path)  # not enrolled: say so before asking
    old = opening.passphrase("The passphrase you have: ")
    keystore.unlock(path, old, _own_name())  # wrong: say so before asking for a new one
    changed = keystore.change_passphrase(path, _own_name(), old, _new_passphrase("The new one, four words or more: "))
    if as_json:
        console.document("hwc.key/1", {"slots": [_shape(changed.slot)]})
        return
    console.text(f"{changed.slot.name or 'your'}: the passphrase is changed")


def _own_name() -> str | None:
    return os.environ.get(opening.PERSON_VARIABLE) or None


def _new_passphrase(question: str) -> str:
    return opening.passphrase(question, twice=True, variable=NEW_PASSPHRASE_VARIABLE)


def _found(slots: tuple[Slot, ...], which: str) -> Slot:
    """Raises InvalidValue (``E_NO_SUCH_SLOT``)."""
    named = [one for one in slots if which == one.slot_id or (one.name or "").casefold() == which.casefold()]
    if len(named) != 1:
        raise InvalidValue(
            "No key slot has this name or id.",
            field="name",
            code="E_NO_SUCH_SLOT",
            next_step="'hwc key list' shows them",
        )
    return named[0]
