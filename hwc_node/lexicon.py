"""The words by which patients are found, each once, with what it is looked up by; and whose they are.

A word is a sound of a name, or a number's digits (`names`). A sound is looked up by its beginning and by its key, a
number by its beginning and by its end, each in an index. What is only alike to a sound has none: for that `Sounds` keeps
them all in memory (some thousand, half a megabyte), and reads only those that came since. It refuses to know who is shown.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Final

from sqlalchemy import Connection

from hwc_node import names
from sync_protocol.change import PatientId

BEGUN: Final = 0.95  # a stored word that begins with what was typed
SAME_KEY: Final = 0.97  # other vowels, the same consonants
LEAST_BEGUN: Final = 2
_STATE: Final = "SELECT (SELECT coalesce(max(id), 0) FROM word), (SELECT count(*) FROM erased_patient)"
"""Words only come, each under a higher id, until a patient is erased."""
_LAST: Final = "\U0010ffff"
_PHONE: Final = names.PHONE_DIGITS
_DIALLED: Final = ("0091", "91", "0")  # before a number of this country
_INSERT: Final = "INSERT INTO patient_word (word, patient) VALUES (?, ?) ON CONFLICT DO NOTHING"
_INSERT_WORD: Final = "INSERT INTO word (word, key) VALUES (?, ?) ON CONFLICT DO NOTHING"

Scores = dict[str, float]
"""Stored word → how near it is to what was typed: 1 for the same."""


# -- keeping -----------------------------------------------------------------------------------------------------------


def keep(connection: Connection, found: Sequence[tuple[str, PatientId]]) -> None:
    """From now on these words find these patients."""
    if found:
        connection.exec_driver_sql(_INSERT, list(found))
        connection.exec_driver_sql(_INSERT_WORD, [(word, key_of(word)) for word in {word for word, _ in found}])


def forget(connection: Connection, patient: PatientId) -> None:
    """The patient was erased: a word that was theirs alone goes too."""
    rows = connection.exec_driver_sql("SELECT word FROM patient_word WHERE patient = ?", (patient,)).fetchall()
    connection.exec_driver_sql("DELETE FROM patient_word WHERE patient = ?", (patient,))
    for (word,) in rows:
        connection.exec_driver_sql(
            "DELETE FROM word WHERE word = ? AND NOT EXISTS (SELECT 1 FROM patient_word p WHERE p.word = word.word)",
            (word,),
        )


def key_of(word: str) -> str:
    """A sound's key; a number's digits from behind, since people say its end."""
    return word[::-1] if word[0].isdigit() else names.key_of(word)


# -- looking up --------------------------------------------------------------------------------------------------------


def near(connection: Connection, sound: str) -> Scores:
    """The words that begin with a sound, or have its key."""
    found = dict.fromkeys(_with_key(connection, names.key_of(sound)), SAME_KEY)
    if len(sound) >= LEAST_BEGUN:
        for word in _begun(connection, sound):
            found[word] = max(found.get(word, 0.0), BEGUN)
    return found | ({sound: 1.0} if sound in found else {})


def numbers(connection: Connection, number: str) -> Scores:
    """The numbers that are this one, begin or end with it, whatever is dialled before either."""
    begun = [number, *(number[len(one) :] for one in _DIALLED if number.startswith(one))]
    found = set(_by_key(connection, number[::-1]))
    for beginning in begun:
        if len(beginning) >= names.LEAST_DIGITS:
            for dialled in ("", *_DIALLED):
                found |= set(_begun(connection, dialled + beginning))
    whole = [number[at:] for at in range(len(number) - _PHONE + 1)]
    found |= set(_same(connection, [dialled + one for one in whole for dialled in ("", *_DIALLED)]))
    return {word: 1.0 for word in found if says(word, number)}


def says(word: str, number: str) -> bool:
    """Whether a stored number is the one that was typed, begins or ends with it, whatever is dialled before either."""
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


class Sounds:
    """Every sound that is stored. Threads may share it."""

    def __init__(self) -> None:
        self._held: tuple[int, int, tuple[str, ...]] = (0, 0, ())  # replaced as a whole
        self._reading = threading.Lock()

    def all(self, connection: Connection) -> tuple[str, ...]:
        """As they are in this transaction, or a little later."""
        newest, erased = connection.exec_driver_sql(_STATE).one()
        upto, gone, sounds = self._held
        if erased == gone and newest <= upto:
            return sounds
        with self._reading:
            upto, gone, sounds = self._held if erased == self._held[1] else (0, erased, ())
            rows = connection.exec_driver_sql("SELECT word FROM word WHERE id > ? AND word >= 'a'", (upto,))
            sounds += tuple(_words(rows))
            self._held = (max(newest, upto), gone, sounds)
        return sounds


def patients_with(connection: Connection, letter: str) -> set[PatientId]:
    """Who has a word that begins with this letter."""
    query = "SELECT DISTINCT patient FROM patient_word WHERE word >= ? AND word < ?"
    return {PatientId(name) for (name,) in connection.exec_driver_sql(query, (letter, letter + _LAST))}


def _begun(connection: Connection, beginning: str) -> list[str]:
    query = "SELECT word FROM word WHERE word >= ? AND word < ?"
    return _words(connection.exec_driver_sql(query, (beginning, beginning + _LAST)))


def _with_key(connection: Connection, key: str) -> list[str]:
    return _words(connection.exec_driver_sql("SELECT word FROM word WHERE key = ?", (key,)))


def _by_key(connection: Connection, beginning: str) -> list[str]:
    query = "SELECT word FROM word WHERE key >= ? AND key < ?"
    return _words(connection.exec_driver_sql(query, (beginning, beginning + _LAST)))


def _same(connection: Connection, wanted: Sequence[str]) -> list[str]:
    if not wanted:
        return []
    marks = ",".join("?" * len(wanted))
    return _words(connection.exec_driver_sql(f"SELECT word FROM word WHERE word IN ({marks})", tuple(wanted)))


def _words(rows: Iterable[Sequence[object]]) -> list[str]:
    return [str(row[0]) for row in rows]
