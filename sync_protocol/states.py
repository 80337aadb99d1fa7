"""India's 36 states and union territories: names and codes of the Local Government Directory, and a tile for each.

States are written unevenly in the lists that centres come from: in capitals, with an ampersand, by an older name, by
letters or by code. `recognised` knows them; what it does not know stays as somebody wrote it. On a map of tiles each has
one of the same size, about where it lies.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

from sync_protocol.words import N_

MOST_COLUMNS: Final = 10  # of the map, as its styles have it
MOST_ROWS: Final = 12
_LONGEST: Final = 100  # characters; what is longer is no state


@dataclass(frozen=True, slots=True)
class State:
    """lgd: its code in the directory. letters: two, as on vehicles. territory: of the union. column, row: of its tile."""

    lgd: int
    letters: str
    name: str
    column: int
    row: int
    territory: bool = False
    others: tuple[str, ...] = ()


STATES: Final = (
    State(35, "AN", N_("Andaman and Nicobar Islands"), 8, 8, True, ("Andaman and Nicobar",)),
    State(28, "AP", N_("Andhra Pradesh"), 4, 7),
    State(12, "AR", N_("Arunachal Pradesh"), 9, 3),
    State(18, "AS", N_("Assam"), 8, 4),
    State(10, "BR", N_("Bihar"), 5, 4),
    State(4, "CH", N_("Chandigarh"), 3, 2, True),
    State(22, "CG", N_("Chhattisgarh"), 4, 5, False, ("Chattisgarh", "CT")),
    State(
        38,
        "DH",
        N_("Dadra and Nagar Haveli and Daman and Diu"),
        2,
        6,
        True,
        ("Dadra and Nagar Haveli", "Daman and Diu", "DN", "DD", "DNHDD"),
    ),
    State(
        7,
        "DL",
        N_("Delhi"),
        3,
        4,
        True,
        ("New Delhi", "NCT of Delhi", "Delhi NCT", "National Capital Territory of Delhi"),
    ),
    State(30, "GA", N_("Goa"), 2, 7),
    State(24, "GJ", N_("Gujarat"), 2, 5),
    State(6, "HR", N_("Haryana"), 3, 3),
    State(2, "HP", N_("Himachal Pradesh"), 4, 2),
    State(1, "JK", N_("Jammu and Kashmir"), 3, 1, True),
    State(20, "JH", N_("Jharkhand"), 5, 5),
    State(29, "KA", N_("Karnataka"), 3, 7),
    State(32, "KL", N_("Kerala"), 3, 8),
    State(37, "LA", N_("Ladakh"), 4, 1, True),
    State(31, "LD", N_("Lakshadweep"), 1, 8, True),
    State(23, "MP", N_("Madhya Pradesh"), 3, 5),
    State(27, "MH", N_("Maharashtra"), 3, 6),
    State(14, "MN", N_("Manipur"), 9, 5),
    State(17, "ML", N_("Meghalaya"), 8, 5),
    State(15, "MZ", N_("Mizoram"), 9, 6),
    State(13, "NL", N_("Nagaland"), 9, 4),
    State(21, "OD", N_("Odisha"), 5, 6, False, ("Orissa", "OR")),
    State(34, "PY", N_("Puducherry"), 5, 8, True, ("Pondicherry",)),
    State(3, "PB", N_("Punjab"), 2, 2),
    State(8, "RJ", N_("Rajasthan"), 2, 4),
    State(11, "SK", N_("Sikkim"), 6, 4),
    State(33, "TN", N_("Tamil Nadu"), 4, 8, False, ("Tamilnadu",)),
    State(36, "TG", N_("Telangana"), 4, 6, False, ("Telengana", "TS")),
    State(16, "TR", N_("Tripura"), 8, 6),
    State(5, "UK", N_("Uttarakhand"), 4, 3, False, ("Uttaranchal", "UT", "UA")),
    State(9, "UP", N_("Uttar Pradesh"), 4, 4),
    State(19, "WB", N_("West Bengal"), 6, 5, False, ("Bengal",)),
)


def _key(text: str) -> str:
    """Without case, accents, blanks and marks; "&" is "and", and a "the" before is nothing."""
    plain = unicodedata.normalize("NFKD", text).casefold().replace("&", " and ")
    return "".join(re.findall("[a-z]+", plain)).removeprefix("the")


_BY_KEY: Final = {_key(said): state for state in STATES for said in (state.name, state.letters, *state.others)}
_BY_CODE: Final = {state.lgd: state for state in STATES}
_CODE: Final = re.compile("0?([0-9]{1,2})")


def recognised(text: str) -> State | None:
    """The state that somebody wrote, by name, letters or code of the directory; None for what is none."""
    said = text.strip()
    if len(said) > _LONGEST:
        return None
    code = _CODE.fullmatch(said)
    return _BY_CODE.get(int(code[1])) if code is not None else _BY_KEY.get(_key(said))


def tidy(text: str) -> str:
    """A state's name as the directory has it, in mixed case; what is none stays as it was written, blanks apart."""
    found = recognised(text)
    return found.name if found is not None else " ".join(text.split())
