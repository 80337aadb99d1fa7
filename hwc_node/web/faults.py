"""What went wrong, as the people of a centre are told it: a sentence, what to do, and the code for whoever helps."""

from __future__ import annotations

from typing import Final

from sync_protocol.errors import HealthSyncError, InvalidValue, NeedsPerson, OurFault, TheirBytes
from sync_protocol.pages.language import said
from sync_protocol.words import N_

PLAIN: Final = {
    "E_DISK_FULL": N_("This computer's disk is full. Free some space, then save again; nothing that was saved is lost."),
    "E_READ_ONLY": N_("This computer cannot write to its disk. Ask whoever looks after it; nothing that was saved is lost."),
    "E_STORAGE": N_("This computer's disk does not work as it should. Ask whoever looks after it."),
    "E_BUSY": N_("The computer is busy. Wait a moment, then try again."),
    "E_ERASED": N_("This patient's records were erased by order of the hub. Register the patient anew if they come again."),
    "E_NO_SUCH_RECORD": N_("There is no such record on this computer."),
    "E_BAD_ID": N_("There is no such page."),
    "E_WRONG_PASSPHRASE": N_("This name and passphrase open nothing here. Check Caps Lock and the keyboard's language."),
    "E_SEVERAL_PEOPLE": N_("More than one person uses this passphrase. Choose your name as well."),
    "E_NOT_IN_CONFLICT": N_("This has been decided already."),
    "E_NOT_RESOLVED": N_("There is no decision here that could be undone."),
    "E_TOO_LARGE": N_("The form is too long to be saved."),
    "E_NO_ASSETS": N_("A part of this program is missing. Ask whoever installed it to run: make assets"),
}  # fmt: skip


def said_of(error: HealthSyncError) -> str:
    """In the spoken language where it has this sentence, and with the code."""
    text = said(PLAIN.get(error.code, error.message))
    return f"{text} [{error.code}]"


def status_of(error: HealthSyncError) -> int:
    """The answer's status."""
    if error.code in ("E_NO_SUCH_RECORD", "E_BAD_ID", "E_ERASED"):
        return 404
    if error.code == "E_TOO_LARGE":
        return 413
    for kind, status in ((InvalidValue, 422), (NeedsPerson, 409), (TheirBytes, 400), (OurFault, 503)):
        if isinstance(error, kind):
            return status
    return 500
