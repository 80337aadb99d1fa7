"""What went wrong, as the people of the hub are told it: a sentence, and the code for whoever helps."""

from __future__ import annotations

from typing import Final

from fastapi import Response

from hub_server.sign_in import TryLater
from sync_protocol.errors import HealthSyncError, InvalidValue, NeedsPerson, NotAllowed, OurFault, TheirBytes
from sync_protocol.pages.language import ENGLISH, spoken
from sync_protocol.words import N_

PLAIN: Final = {
    "E_CLAIMED": N_("Another doctor has this referral."),
    "E_HANDED_OVER": N_("This referral was handed over to another doctor and waits for them."),
    "E_ANSWERED": N_("This referral was answered already. To change an answer, correct it."),
    "E_CLOSED": N_("The centre closed this referral."),
    "E_WITHDRAWN": N_("The centre withdrew this referral."),
    "E_NO_SUCH_REFERRAL": N_("The hub has no such referral. What has just arrived takes a moment."),
    "E_BAD_ID": N_("There is no such page."),
    "E_PG_UNREACHABLE": N_("The hub's database does not answer. Try again in a moment; what was saved is kept."),
    "E_PG_BUSY": N_("The hub is busy. Try again in a moment; what was saved is kept."),
    "E_PERSON_DISABLED": N_("This account was closed. Ask the hub's operator."),
    "E_TOO_LARGE": N_("The form is too long to be saved."),
}


LATER: Final = N_("There were too many wrong tries. Try again in %(time)s.")
OTHERWISE: Final = N_("This could not be done.")


def said_of(error: HealthSyncError) -> str:
    """In the spoken language, and with the code; what has no words in it yet is told in general ones."""
    words, sentence, wait = spoken(), PLAIN.get(error.code, error.message), ""
    if isinstance(error, TryLater):  # in whole minutes, rather too long than too short
        sentence, wait = LATER, words.duration(-(-error.retry_after_s // 60) * 60_000)
    known = words.code == ENGLISH or words.gettext(sentence) != sentence
    text = words.gettext(sentence) if known else words.gettext(OTHERWISE)
    return f"{text % {'time': wait} if wait else text} [{error.code}]"


def status_of(error: HealthSyncError) -> int:
    """The answer's status."""
    if error.code in ("E_NO_SUCH_REFERRAL", "E_BAD_ID", "E_NO_CONFLICT", "E_NO_SUCH_OPENING"):
        return 404
    if error.code in ("E_TOO_LARGE", "E_DRAFT_TOO_LARGE"):
        return 413
    kinds = ((NotAllowed, 403), (InvalidValue, 422), (NeedsPerson, 409), (TheirBytes, 400), (OurFault, 503))
    return next((status for kind, status in kinds if isinstance(error, kind)), 500)


def status_of_sign_in(error: HealthSyncError) -> int:
    """The same for a step of signing in, where a refusal is like any other form that has to be sent again."""
    if error.code == "E_TRY_LATER":
        return 429
    return 422 if isinstance(error, NeedsPerson) else status_of(error)


def with_retry(response: Response, error: HealthSyncError) -> Response:
    """With when to come again, where that is known."""
    if retry_after_s := getattr(error, "retry_after_s", 0):
        response.headers["retry-after"] = str(retry_after_s)
    return response
