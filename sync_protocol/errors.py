"""The errors of the whole project, as one tree that tells whose fault it is.

    HealthSyncError
    ├── OurFault            we were called wrongly, or this machine cannot go on (a full disk, a wrong setting)
    ├── TheirBytes          what the other side, a file or a person sent does not check out; nothing was changed
    │   ├── NotCanonical        msgpack that is not the one encoding of its value          E_NOT_CANONICAL
    │   ├── TooLarge            a declared or real size is over its limit                  E_TOO_LARGE
    │   ├── Truncated           bytes end before what they announced                       E_TRUNCATED
    │   ├── Malformed           the shape is not one this protocol knows                   E_MALFORMED
    │   ├── Unsupported         a version, suite or dictionary this program does not have  E_UNSUPPORTED
    │   ├── WrongRecipient      sealed to another key, or for another environment          E_WRONG_RECIPIENT
    │   ├── BadSignature        the signature or the seal does not verify                  E_BAD_SIGNATURE
    │   ├── UnknownSender       no certificate is known for the sender                     E_UNKNOWN_NODE
    │   ├── MissingGrant        the grant that opens this has not arrived yet              E_MISSING_GRANT
    │   ├── NotAllowed          this writer may not write this kind                        E_NOT_ALLOWED
    │   ├── InvalidValue        a field's value is outside of its type or limits           E_INVALID_VALUE
    │   └── NotOurAnswer        an answer that is not the hub's answer to this request     E_NOT_OUR_ANSWER
    └── NeedsPerson         nothing is broken, but a person has to decide or do something

Every error carries a stable ``code`` (``E_…``), one sentence of what happened, and optionally what to do next.
No message may carry a patient's data: name fields and sizes, never values.
"""

from __future__ import annotations

from typing import ClassVar


class HealthSyncError(Exception):
    """Root of the tree. ``str(error)`` is one sentence; ``error.code`` is stable; ``error.next_step`` may be empty."""

    default_code: ClassVar[str] = "E_ERROR"

    def __init__(self, message: str, *, code: str | None = None, next_step: str = "") -> None:
        super().__init__(message)
        self.code = code or self.default_code
        self.next_step = next_step

    @property
    def message(self) -> str:
        """What happened, in one sentence."""
        return str(self)


class OurFault(HealthSyncError):
    """We were called wrongly, or this machine cannot go on."""

    default_code = "E_OUR_FAULT"


class TheirBytes(HealthSyncError):
    """Bytes from outside do not check out. Nothing was changed when this is raised."""

    default_code = "E_BAD_BYTES"


class NotCanonical(TheirBytes):
    default_code = "E_NOT_CANONICAL"


class TooLarge(TheirBytes):
    default_code = "E_TOO_LARGE"


class Truncated(TheirBytes):
    default_code = "E_TRUNCATED"


class Malformed(TheirBytes):
    default_code = "E_MALFORMED"


class Unsupported(TheirBytes):
    default_code = "E_UNSUPPORTED"


class WrongRecipient(TheirBytes):
    default_code = "E_WRONG_RECIPIENT"


class BadSignature(TheirBytes):
    default_code = "E_BAD_SIGNATURE"


class UnknownSender(TheirBytes):
    default_code = "E_UNKNOWN_NODE"


class MissingGrant(TheirBytes):
    default_code = "E_MISSING_GRANT"


class NotAllowed(TheirBytes):
    default_code = "E_NOT_ALLOWED"


class InvalidValue(TheirBytes):
    """A value outside of its field's type or limits. ``field`` names it; the message never repeats the value."""

    default_code = "E_INVALID_VALUE"

    def __init__(self, message: str, *, field: str = "", code: str | None = None, next_step: str = "") -> None:
        super().__init__(message, code=code, next_step=next_step)
        self.field = field


class NotOurAnswer(TheirBytes):
    default_code = "E_NOT_OUR_ANSWER"


class NeedsPerson(HealthSyncError):
    """Nothing is broken, but a person has to decide or do something first."""

    default_code = "E_NEEDS_PERSON"
