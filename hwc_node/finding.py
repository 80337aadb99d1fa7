"""Finds patients by what a person types: a name however it is spelt, or digits of a phone or ABHA number.

Each word that is typed is compared with every word that is stored (`names`), the nearest count, and whoever has a word
near to each of those typed is found, the best first. A word that is typed half counts as if it were whole, so that
results come while one types; a single letter beside other words, as an initial or the beginning of a word, leaves nobody
out, and puts first who has a word that begins with it. What was written of a name before it was corrected finds its
patient too. Who was entered in error is not found. It refuses to know what a result looks like.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rapidfuzz import process
from rapidfuzz.distance import JaroWinkler
from sqlalchemy import Connection

from hwc_node import ledger, names
from hwc_node.engine import begin_read
from hwc_node.store import Store
from sync_protocol.canonical import Value
from sync_protocol.change import PatientId

MOST_FOUND: Final = 20  # what a person looks through
MAX_TYPED_CHARS: Final = 200
NEAR: Final = 0.84  # of two sounds: lets one letter of five differ, and keeps Ramesh from Suresh
BEGUN: Final = 0.95  # a stored word that begins with what was typed
SAME_KEY: Final = 0.97  # other vowels, the same consonants
_NEAR_WORDS: Final = 200  # to each that was typed: bounds what is looked up
_NEAR_PATIENTS: Final = 500  # by their words, who are then told apart by single letters
_LAST_LETTER: Final = "\U0010ffff"
_LEAST_BEGUN: Final = 2
_PHONE: Final = names.PHONE_DIGITS
HIDDEN: Final = "SELECT patient FROM record WHERE +kind = 'patient' AND hidden AND patient IN ({})"
"""The plus keeps SQLite from going through all patients for some of them."""
_DIALLED: Final = ("0091", "91", "0")  # before a number of this country


@dataclass(frozen=True, slots=True)
class Near:
    """A patient. nearness: 1 where each word that was typed is one of the patient's, less where they differ."""

    patient: PatientId
    nearness: float


@dataclass(frozen=True, slots=True)
class Found:
    """A patient as a list shows them. view: what is shown of their own record, empty where it has not arrived.

    last_visit_ms: of the latest record that says when it happened.
    """

    patient: PatientId
    nearness: float
    view: Mapping[str, Value]
    last_visit_ms: int | None


def find(store: Store, typed: str, most: int = MOST_FOUND) -> list[Found]:
    """The patients nearest to what was typed, the nearest first; none where nothing of it can be looked for."""
    return [_found(store, one) for one in nearest(store, typed, most)]


def _found(store: Store, one: Near) -> Found:
    records = store.patient_records(one.patient)
    own = next((kept.record for kept in records if kept.key.kind == ledger.PATIENT), None)
    visits = [kept.at_ms for kept in records if kept.at_ms is not None]
    return Found(one.patient, one.nearness, own.view() if own is not None else {}, max(visits, default=None))


def nearest(store: Store, typed: str, most: int = MOST_FOUND) -> list[Near]:
    """As `find`, without looking at the patients."""
    text = typed[:MAX_TYPED_CHARS]
    number, spoken = names.digits(text), names.sounds(text)
    sounds = [one for one in spoken if len(one) >= _LEAST_BEGUN] or list(spoken)
    letters = [one for one in spoken if one not in sounds]
    if not number and not sounds:
        return []
    with begin_read(store.engine) as connection:
        known = [str(word) for (word,) in connection.exec_driver_sql("SELECT DISTINCT word FROM patient_word")]
        spelt = [word for word in known if not word[0].isdigit()]
        near = [_near(sound, spelt) for sound in sounds]
        if number:
            near.append({word: 1.0 for word in known if word[0].isdigit() and _says(word, number)})
        found = _with_all(connection, near)
        if letters:
            found = _with_letters(connection, found[:_NEAR_PATIENTS], letters)
        hidden = _hidden(connection, [one.patient for one in found])
    return [one for one in found if one.patient not in hidden][:most]


def _near(sound: str, known: Sequence[str]) -> dict[str, float]:
    """Stored word → how near it is to one that was typed."""
    alike = process.extract(
        sound, known, scorer=JaroWinkler.normalized_similarity, limit=_NEAR_WORDS, score_cutoff=NEAR
    )
    near = {word: float(score) for word, score, _ in alike}
    key = names.key_of(sound)
    for word in known:
        if word.startswith(sound) and len(sound) >= _LEAST_BEGUN:
            near[word] = max(near.get(word, 0.0), BEGUN)
        if names.key_of(word) == key:
            near[word] = max(near.get(word, 0.0), SAME_KEY)
    near.update({sound: 1.0} if sound in near else {})
    return near


def _says(word: str, number: str) -> bool:
    """The number itself, its end, or its beginning; whether or not what is dialled before it is said, or written."""
    whole = next(
        (word[len(one) :] for one in _DIALLED if word.startswith(one) and len(word) - len(one) == _PHONE), word
    )
    begun = [number, *(number[len(one) :] for one in _DIALLED if number.startswith(one))]
    return (
        word.endswith(number)
        or word.startswith(number)
        or any(len(one) >= names.LEAST_DIGITS and whole.startswith(one) for one in begun)
        or (len(whole) >= _PHONE and number.endswith(whole))
    )


def _with_all(connection: Connection, near: Sequence[dict[str, float]]) -> list[Near]:
    """Who has a word near to each that was typed."""
    query = "SELECT word, patient FROM patient_word WHERE word IN ({})"
    together: dict[PatientId, float] | None = None
    for words in near:
        best: dict[PatientId, float] = {}
        for word, name in _select_words(connection, query, list(words)):
            patient = PatientId(name)
            best[patient] = max(best.get(patient, 0.0), words[word])
        if together is None:
            together = best
        else:
            together = {patient: together[patient] + score for patient, score in best.items() if patient in together}
    found = [Near(patient, score / len(near)) for patient, score in (together or {}).items()]
    return sorted(found, key=lambda one: (-one.nearness, one.patient))


def _with_letters(connection: Connection, found: Sequence[Near], letters: Sequence[str]) -> list[Near]:
    """The same, those first who have a word that begins with each of these letters too."""
    query = "SELECT DISTINCT patient FROM patient_word WHERE word >= ? AND word < ?"
    begun = [
        {PatientId(name) for (name,) in connection.exec_driver_sql(query, (one, one + _LAST_LETTER))} for one in letters
    ]
    return sorted(found, key=lambda one: -sum(one.patient in patients for patients in begun))


def _select_words(connection: Connection, query: str, words: Sequence[str]) -> list[tuple[str, bytes]]:
    rows: list[tuple[str, bytes]] = []
    for part in ledger.chunks(words):
        found = connection.exec_driver_sql(query.format(",".join("?" * len(part))), tuple(part))
        rows += [(str(word), patient) for word, patient in found]
    return rows


def _hidden(connection: Connection, patients: Sequence[PatientId]) -> set[PatientId]:
    """Those whose own record was entered in error."""
    return {PatientId(name) for (name,) in ledger.select_in(connection, HIDDEN, patients)}
