"""Signing in at the hub: a password, then a code of six digits, then a session that ends by itself.

    begin(login, password) -> a pending token        `desk`: the steps, each counted and noted in the audit
    finish(pending, code)  -> a session's token      `passwords`: Argon2id; `second_factor`: TOTP (RFC 6238)
    set_up(pending, password, code) -> the same      `first`: the first time, with what could go wrong
    session_of(token)      -> who is signed in       `sessions`; `credentials`: what people sign in with; `tries`

Rules. Secrets are stored so that a database, or a backup of it, gives nobody away: hash and second factor are wrapped
under the hub's key-encryption key, of tokens stands only the SHA-256. An unknown login, a disabled person and a wrong
password are one answer after the same work. A try is counted before it is made. No code works twice. Whatever changes
a password or a second factor ends that person's sessions. A hub that is put back has no sessions, and no credential
that was replaced since (`hub_server.recovery`).

It refuses to know pages, cookies and addresses' meaning; what a person may see is said elsewhere, by role.
"""

from __future__ import annotations

from hub_server.sign_in.credentials import (
    ONE_TIME_MS,
    Standing,
    confirm_totp,
    forget_password_before,
    forget_totp,
    forget_totp_before,
    give_totp,
    hold,
    new_totp,
    rewrap,
    set_password,
    standings,
)
from hub_server.sign_in.desk import Pending, SignIn, drop_stale
from hub_server.sign_in.first import SetUp
from hub_server.sign_in.passwords import Hashed, Turns, make_password, one_time_password
from hub_server.sign_in.refusals import Refused, SignInBusy, TryLater
from hub_server.sign_in.second_factor import SERVICE_NAME, NewFactor
from hub_server.sign_in.sessions import (
    IDLE_MS,
    SESSION_MS,
    OpenSession,
    SignedIn,
    end_all,
    owner_of,
    session_of,
    sessions_of,
    sign_out,
    sign_out_everywhere,
)

__all__ = [
    "IDLE_MS",
    "ONE_TIME_MS",
    "SERVICE_NAME",
    "SESSION_MS",
    "Hashed",
    "NewFactor",
    "OpenSession",
    "Pending",
    "Refused",
    "SetUp",
    "SignIn",
    "SignInBusy",
    "SignedIn",
    "Standing",
    "TryLater",
    "Turns",
    "confirm_totp",
    "drop_stale",
    "end_all",
    "forget_password_before",
    "forget_totp",
    "forget_totp_before",
    "give_totp",
    "hold",
    "make_password",
    "new_totp",
    "one_time_password",
    "owner_of",
    "rewrap",
    "session_of",
    "sessions_of",
    "set_password",
    "sign_out",
    "sign_out_everywhere",
    "standings",
]
