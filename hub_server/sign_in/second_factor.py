"""The second factor: six digits that change every 30 seconds (TOTP, RFC 6238), as every authenticator makes them.

A code of the step before or after counts too, for clocks that differ by up to half a minute. Which step a code is of is
returned, so that whoever stores it can refuse to take a step twice.
"""

from __future__ import annotations

import base64
import hmac
import re
import unicodedata
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

SECRET_BYTES: Final = 20  # what RFC 4226 recommends, and every authenticator takes
STEP_S: Final = 30
DIGITS: Final = 6
STEPS_ASIDE: Final = 1
SERVICE_NAME: Final = "Health Sync"  # under which authenticators list it
_GROUP_CHARS: Final = 4
_CODE: Final = re.compile(r"[0-9]{6}")


@dataclass(frozen=True, slots=True)
class NewFactor:
    """What an authenticator is given; both hold the secret: show them once, store them nowhere.

    uri: ``otpauth://…``, for a QR code. letters: the secret in base32, in groups of four, to be typed.
    """

    uri: str = field(repr=False)
    letters: str = field(repr=False)


def new_factor(secret: bytes, login: str) -> NewFactor:
    """secret: SECRET_BYTES."""
    text = base64.b32encode(secret).decode()
    letters = " ".join(text[at : at + _GROUP_CHARS] for at in range(0, len(text), _GROUP_CHARS))
    uri = _totp(secret).get_provisioning_uri(login, SERVICE_NAME)
    return NewFactor(uri.replace("+", "%20"), letters)  # some authenticators would show the plus sign


def step_of(secret: bytes, code: str, last_step: int, now_ms: int) -> int | None:
    """The time step that the code is of, if it is later than the last one used; None for a code that does not count."""
    given = _digits(code)
    at, found = now_ms // 1000 // STEP_S, None
    for step in range(max(at - STEPS_ASIDE, 0), at + STEPS_ASIDE + 1):
        if hmac.compare_digest(_totp(secret).generate(step * STEP_S), given) and step > last_step and found is None:
            found = step
    return found


def _digits(code: str) -> bytes:
    """As typed: authenticators show 123 456, and an Indian keyboard may write १२३४५६."""
    text = "".join(str(unicodedata.decimal(letter, letter)) for letter in code[:20] if not letter.isspace())
    return text.encode() if _CODE.fullmatch(text) else b"-" * DIGITS


def _totp(secret: bytes) -> TOTP:
    return TOTP(secret, DIGITS, SHA1(), STEP_S)  # noqa: S303  # HMAC-SHA-1, which authenticators know; it is not broken
