"""What somebody who signs in is told, each with its code. None says whether a login exists."""

from __future__ import annotations

from sync_protocol.errors import InvalidValue, NeedsPerson, OurFault
from sync_protocol.words import N_


class Refused(NeedsPerson):
    """Not signed in, or not any more."""

    default_code = "E_SIGN_IN_REFUSED"


class TryLater(Refused):
    """There were too many tries. retry_after_s: when the next one is taken, in whole seconds."""

    default_code = "E_TRY_LATER"

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(N_("There were too many wrong tries. Wait a little, then try again."))
        self.retry_after_s = retry_after_s


class SignInBusy(OurFault):
    """More people sign in at this moment than the hub has memory for."""

    default_code = "E_SIGN_IN_BUSY"

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(N_("Many people are signing in at this moment. Try again in a few seconds."))
        self.retry_after_s = retry_after_s


def wrong_password() -> Refused:
    return Refused(N_("The login or the password is not right."))


def wrong_code() -> Refused:
    return Refused(N_("The code is not right, or it was used already. Wait for the next one."), code="E_WRONG_CODE")


def begin_again() -> Refused:
    return Refused(N_("That took too long, or there were too many tries. Begin again."), code="E_BEGIN_AGAIN")


def signed_out() -> Refused:
    return Refused(N_("You are signed out. Sign in again."), code="E_SIGNED_OUT")


def same_password() -> InvalidValue:
    return InvalidValue(N_("This is the old password."), field="password", code="E_SAME_PASSWORD")


def no_second_factor() -> Refused:
    """Their own password, and no second factor: the hub was put back, or the telephone was lost."""
    return Refused(
        N_("You have no second factor any more. Ask the hub's operator for a one-time password."),
        code="E_NO_SECOND_FACTOR",
        next_step="hub people password LOGIN",
    )


def one_time_too_old() -> Refused:
    return Refused(
        N_("This one-time password is too old. Ask the hub's operator for another one."),
        code="E_ONE_TIME_TOO_OLD",
        next_step="hub people password LOGIN",
    )
