"""What went wrong, as the people of a centre are told it: a sentence, what to do, and the code for whoever helps."""

from __future__ import annotations

from typing import Final

from sync_protocol.errors import HealthSyncError, InvalidValue, NeedsPerson, OurFault, TheirBytes
from sync_protocol.pages.language import ENGLISH, said, spoken
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

REFUSED: Final = {
    "E_NOT_ALLOWED": N_("The hub does not take this kind of record from a centre."),
    "E_NOT_OURS": N_("The hub does not take this kind of record from a centre."),
    "E_UNKNOWN_FACILITY": N_("It names a centre that the hub does not know."),
    "E_REVOKED": N_("The hub has shut this computer out; what it sends waits there for a person."),
    "E_NOT_CANONICAL": N_("The record's form is not as it should be."),
    "E_MALFORMED": N_("The record's form is not as it should be."),
    "E_TOO_LARGE": N_("The record is larger than the hub takes."),
    "E_ERASED": N_("The patient was erased by order of the hub."),
}  # fmt: skip
_REFUSED_OTHERWISE: Final = N_("The hub could not take it in.")


def refusal_said(code: str) -> str:
    """Why the hub set a record aside, as people are told it, with the code for whoever helps."""
    return f"{said(REFUSED.get(code, _REFUSED_OTHERWISE))} [{code}]"


OTHERWISE: Final = N_("This could not be done.")


def said_of(error: HealthSyncError) -> str:
    """In the spoken language, and with the code; what has no words in it yet is told in general ones."""
    words, sentence = spoken(), PLAIN.get(error.code, error.message)
    known = words.code == ENGLISH or words.gettext(sentence) != sentence
    return f"{words.gettext(sentence if known else OTHERWISE)} [{error.code}]"


def status_of(error: HealthSyncError) -> int:
    """The answer's status."""
    if error.code in ("E_NO_SUCH_RECORD", "E_BAD_ID", "E_ERASED"):
        return 404
    if error.code == "E_TOO_LARGE":
        return 413
    if error.code == "E_OTHER_CENTRES":
        return 403
    for kind, status in ((InvalidValue, 422), (NeedsPerson, 409), (TheirBytes, 400), (OurFault, 503)):
        if isinstance(error, kind):
            return status
    return 500
