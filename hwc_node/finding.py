"""Finds patients by what a person types: a name however it is spelt, or digits of a phone or ABHA number.

Each word that is typed is looked up among those that are stored (`lexicon`): those that begin with it or sound alike, and
where these find too few, those whose letters are alike. Whoever has a word near to each of those typed is found, the best
first; where these are fewer than asked for, behind them who has some of the words: first of all who has no other name
than typed ones, since a name is written with a word less or more. A word that is typed half counts as if it were whole,
so that results come while one types; a single letter beside other words, as an initial or the beginning of a word, leaves
nobody out, and puts first who has a word that begins with it. What was written of a name before it was corrected finds its
patient too. Who was entered in error is not found. It refuses to know what a result looks like.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from heapq import nlargest
from operator import itemgetter
from typing import Final
from weakref import WeakKeyDictionary

from rapidfuzz import process
from rapidfuzz.distance import JaroWinkler
from sqlalchemy import Connection

from hwc_node import ledger, lexicon, names
from hwc_node.engine import begin_read
from hwc_node.store import Store
from sync_protocol.canonical import Value
from sync_protocol.change import PatientId, RecordId, RecordKey

MOST_FOUND: Final = 20  # what a person looks through
MAX_TYPED_CHARS: Final = 200
NEAR: Final = 0.84  # of two sounds: lets one letter of five differ, and keeps Ramesh from Suresh
_MOST_ALIKE: Final = 200  # words: bounds what is looked up
PARTLY: Final = 0.96  # of nearness, for who has no other name than some of those typed
HARDLY: Final = 0.9  # for who has other names beside
_NEAR_PATIENTS: Final = 500  # by their words, who are then told apart by single letters
_LOOKED_AT: Final = 40  # of who has some of the words: whose own names are read
HIDDEN: Final = "SELECT patient FROM record WHERE +kind = 'patient' AND hidden AND patient IN ({})"
"""The plus keeps SQLite from going through all patients for some of them."""
_SOUNDS: Final[WeakKeyDictionary[Store, lexicon.Sounds]] = WeakKeyDictionary()
_LAST_VISITS: Final = (
    "SELECT patient, max(at_ms) FROM record INDEXED BY record_patient"
    " WHERE +kind = 'case' AND NOT hidden AND at_ms IS NOT NULL AND patient IN ({}) GROUP BY patient"
)


@dataclass(frozen=True, slots=True)
class Near:
    """A patient. nearness: 1 where each word that was typed is one of the patient's, less where they differ."""

    patient: PatientId
    nearness: float


@dataclass(frozen=True, slots=True)
class Found:
    """A patient as a list shows them. view: what is shown of their own record, empty where it has not arrived.

    last_visit_ms: of the latest visit that says when it was and was not entered in error, wherever it was; None for none.
    """

    patient: PatientId
    nearness: float
    view: Mapping[str, Value]
    last_visit_ms: int | None


def find(store: Store, typed: str, most: int = MOST_FOUND) -> list[Found]:
    """The patients nearest to what was typed, the nearest first; none where nothing of it can be looked for."""
    found = nearest(store, typed, most)
    keys = [RecordKey(ledger.PATIENT, RecordId(one.patient)) for one in found]
    views = {PatientId(bytes(one.key.record)): one.record.view() for one in store.some_records(keys)}
    with begin_read(store.engine) as connection:
        visits = {PatientId(name): at_ms for name, at_ms in ledger.select_in(connection, _LAST_VISITS, _ids(found))}
    return [Found(one.patient, one.nearness, views.get(one.patient, {}), visits.get(one.patient)) for one in found]


def nearest(store: Store, typed: str, most: int = MOST_FOUND) -> list[Near]:
    """As `find`, without what a list shows of the patients."""
    text = typed[:MAX_TYPED_CHARS]
    number, spoken = names.digits(text), names.sounds(text)
    sounds = [one for one in spoken if len(one) >= lexicon.LEAST_BEGUN] or list(spoken)
    letters = [one for one in spoken if one not in sounds]
    if not number and not sounds:
        return []
    with begin_read(store.engine) as connection:
        words = [lexicon.near(connection, one) for one in sounds]
        numbers = [_patients(connection, lexicon.numbers(connection, number))] if number else []
        each = [*(_patients(connection, one) for one in words), *numbers]
        found = _with_all(each)
        if sounds and len(found) < most:
            every = _sounds(store).all(connection)
            alike = [_patients(connection, _alike(connection, every, one)) for one in sounds]
            found = _with_all([*alike, *numbers])
        if letters:
            found = _with_letters(connection, found[:_NEAR_PATIENTS], letters)
        shown = _shown(connection, found, most)
        some: list[Near] = []
        if len(shown) < most and len(each) > 1:
            some = _shown(connection, _with_some(each, {one.patient for one in found}), _LOOKED_AT)
    return [*shown, *_own_names_first(store, some, words)][:most]


def _alike(connection: Connection, sounds: Sequence[str], sound: str) -> lexicon.Scores:
    """The words that are near to a sound in their letters, the nearest of them; beside those that `lexicon.near` gives."""
    scored = process.extract(
        sound, sounds, scorer=JaroWinkler.normalized_similarity, limit=_MOST_ALIKE, score_cutoff=NEAR
    )
    found = {word: float(score) for word, score, _ in scored}
    for word, score in lexicon.near(connection, sound).items():
        found[word] = max(found.get(word, 0.0), score)
    return found | ({sound: 1.0} if sound in found else {})


def _sounds(store: Store) -> lexicon.Sounds:
    return _SOUNDS.setdefault(store, lexicon.Sounds())


def _ids(found: Sequence[Near]) -> list[PatientId]:
    return [one.patient for one in found]


def _patients(connection: Connection, words: lexicon.Scores) -> dict[PatientId, float]:
    """Who has one of these words: how near the nearest is."""
    query = "SELECT word, patient FROM patient_word WHERE word IN ({})"
    best: dict[PatientId, float] = {}
    for word, name in _select_words(connection, query, list(words)):
        patient = PatientId(name)
        best[patient] = max(best.get(patient, 0.0), words[word])
    return best


def _with_all(each: Sequence[Mapping[PatientId, float]]) -> list[Near]:
    """Who has a word near to each that was typed."""
    together = dict(each[0])
    for best in each[1:]:
        together = {patient: together[patient] + score for patient, score in best.items() if patient in together}
    found = [Near(patient, score / len(each)) for patient, score in together.items()]
    return sorted(found, key=lambda one: (-one.nearness, one.patient))


def _with_some(each: Sequence[Mapping[PatientId, float]], found: Set[PatientId]) -> list[Near]:
    """Who has a word near to some of those typed, and is not found by all: of many, those with the rarest word."""
    chosen: dict[PatientId, float] = {}
    for best in sorted(each, key=len):
        fresh = [one for one in best.items() if one[0] not in found and one[0] not in chosen]
        for patient, _ in nlargest(_NEAR_PATIENTS - len(chosen), fresh, key=itemgetter(1)):
            chosen[patient] = HARDLY * sum(one.get(patient, 0.0) for one in each) / len(each)
    return sorted((Near(*one) for one in chosen.items()), key=lambda one: -one.nearness)


def _own_names_first(store: Store, some: Sequence[Near], words: Sequence[lexicon.Scores]) -> list[Near]:
    """The same, those first all of whose own names are among the typed words."""
    near = {one.patient: one for one in some}
    for kept in store.some_records([RecordKey(ledger.PATIENT, RecordId(one)) for one in near]):
        own = names.sounds(str(kept.record.view().get("name") or ""))
        scores = [
            max(typed.get(one, 0.0) for typed in words) for one in own if len(one) >= lexicon.LEAST_BEGUN and words
        ]
        if scores and min(scores) > 0:
            patient = PatientId(bytes(kept.key.record))
            near[patient] = Near(patient, PARTLY * sum(scores) / len(scores))
    return sorted(near.values(), key=lambda one: -one.nearness)


def _with_letters(connection: Connection, found: Sequence[Near], letters: Sequence[str]) -> list[Near]:
    """The same, those first who have a word that begins with each of these letters too."""
    begun = [lexicon.patients_with(connection, one) for one in letters]
    return sorted(found, key=lambda one: -sum(one.patient in patients for patients in begun))


def _select_words(connection: Connection, query: str, words: Sequence[str]) -> list[tuple[str, bytes]]:
    rows: list[tuple[str, bytes]] = []
    for part in ledger.chunks(words):
        found = connection.exec_driver_sql(query.format(",".join("?" * len(part))), tuple(part)).fetchall()
        rows += [(str(word), patient) for word, patient in found]
    return rows


def _shown(connection: Connection, found: Sequence[Near], most: int) -> list[Near]:
    """The first whose own record was not entered in error: to look that up takes longer than to find them."""
    shown: list[Near] = []
    for at in range(0, len(found), most):
        part = found[at : at + most]
        hidden = {PatientId(name) for (name,) in ledger.select_in(connection, HIDDEN, _ids(part))}
        shown += [one for one in part if one.patient not in hidden]
        if len(shown) >= most:
            break
    return shown[:most]
