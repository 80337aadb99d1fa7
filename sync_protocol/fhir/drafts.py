"""What is read of one JSON value: its resources, how they name each other, and the records that they become.

A record's id: our own identifier says it; else it is the hash of the facility and of what names the resource, which is
its business identifier (for a patient the ABHA number first), else its absolute fullUrl, else its id within the
Bundle's own identifier, since senders number the resources of every document from 1. So repeating repeats nothing. The
patient is hashed in too: a visit's number that two patients share never moves a record from one to the other.
References are looked up, never followed further: circles cost nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sync_protocol import documents, schema
from sync_protocol.fhir import names
from sync_protocol.fhir.datatypes import Json, Key, exact_in, foreign_name, key_in, time_in, type_in
from sync_protocol.fhir.taking import Source, Step

LABEL: Final = "fhir"
AT: Final = "at"  # the name under which our extensions carry a record's time, which a line has beside its fields
RECORD_TYPES: Final = {"Patient": "patient", "Encounter": "case", "Practitioner": "person", "Organization": "facility"}
"""What another resource of this type is a record of, when it is only referred to."""
OPENS_SCOPE: Final = frozenset(kind for kind, table in schema.KINDS.items() if table.opens_scope)


@dataclass(slots=True)
class Draft:
    """A record in the making. exact: what our own extensions say, which counts above all else."""

    key: Key
    patient: bytes | None = None
    facility: str | None = None
    at: str | None = None
    fields: Json = field(default_factory=dict)
    exact: Json = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)
    sources: list[Source] = field(default_factory=list)

    def put(self, name: str, value: Any) -> bool:
        """Say a field; False where the record says something else of it already."""
        if name in self.fields and self.fields[name] != value:
            return False
        self.fields[name] = value
        return True

    @property
    def says_something(self) -> bool:
        return bool(self.fields or self.exact or self.at)

    def line(self) -> Json:
        """The record as a line of an import."""
        said = {AT: self.at, **self.fields} | self.exact
        fields = {name: value for name, value in said.items() if name not in self.absent and name != AT}
        line: Json = {"kind": self.key.kind, "id": documents.id_text(self.key.record)}
        if self.facility is not None:
            line["facility"] = self.facility
        if self.patient is not None:
            line["patient"] = documents.id_text(self.patient)
        at = None if AT in self.absent else said[AT]
        return line | ({AT: at} if at is not None else {}) | {"fields": fields}


class Sheet:
    """The resources of one value, by what they are called, and the drafts they became."""

    def __init__(self, facility: str, sources: Iterable[Source], scope: str, known: Mapping[str, Key]) -> None:
        self.facility = facility
        self.sources = list(sources)
        self.scope = scope  # what names the Bundle, empty for a resource by itself
        self.drafts: dict[Key, Draft] = {}
        self.roles: dict[int, str] = {}  # by the source's `id()`: what a visit or a section makes of it
        self.visits: dict[int, Key] = {}  # the visit that a visit or a section puts it in
        self.written_at: str | None = None  # of the Composition: for what has no time of its own
        self._known = known
        self._by_url: dict[str, Source] = {}
        for source in self.sources:
            for url in self.urls(source):
                self._by_url.setdefault(url, source)

    @staticmethod
    def urls(source: Source) -> list[str]:
        """What others may call a resource."""
        name = source.look("id")
        said = [source.url] if source.url else []
        return said + ([f"{source.type}/{name}"] if isinstance(name, str) and name else [])

    def place(self, source: Source, role: str | None, visit: Key | None) -> None:
        """Remember what a visit or a section makes of a resource; what was said first counts."""
        if role is not None:
            self.roles.setdefault(id(source), role)
        if visit is not None:
            self.visits.setdefault(id(source), visit)

    def visit_of(self, source: Source) -> Key | None:
        """The visit that a resource is in: its own word, else the document's."""
        visit = self.target(source, "encounter") or self.visits.get(id(source))
        return visit if visit is not None and visit.kind == "case" else None

    def document_time(self) -> str | None:
        """The document's own time, for what has none."""
        ms = time_in(self.written_at)
        return documents.time_text(ms) if ms is not None else None

    # -- names ---------------------------------------------------------------------------------------------------------

    def own(self, source: Source) -> Key | None:
        """The record of ours that a resource tells of."""
        found = [key_in(source.look("identifier", at)) for at in source.rows("identifier")]
        return next((key for key in found if key is not None), None)

    def key(self, source: Source, kind: str) -> Key:
        """The record that a resource of somebody else's is, as this kind; its naming identifier is taken."""
        named = [(at, foreign_name(source.look("identifier", at))) for at in source.rows("identifier")]
        named.sort(key=lambda pair: not (pair[1] or "").startswith(names.ABHA_SYSTEMS))  # stable: else the first
        for at, name in named:
            if name is not None:
                source.take("identifier", at)
                return self._derived(source, source.type, kind, name)
        if source.url is not None and (source.url.startswith("urn:") or "://" in source.url):
            return self._derived(source, source.type, kind, source.url)
        name = source.look("id")
        if isinstance(name, str) and name:
            return self._derived(source, source.type, kind, self.scope, name)
        return self._derived(source, source.type, kind, json.dumps(source.body, sort_keys=True))

    def _derived(self, of: Source, kind_there: str, kind: str, *parts: str) -> Key:
        """of: a resource of the same patient."""
        patient = None if kind in OPENS_SCOPE else self.patient_of(of)
        whose = patient.record if patient is not None else b""
        said = (_utf8(part) for part in (kind_there, kind, *parts))
        return Key(kind, documents.derived_id(LABEL, self.facility, whose, *said))

    # -- references ----------------------------------------------------------------------------------------------------

    def source_of(self, reference: Any) -> Source | None:
        """The resource of this value that a Reference means."""
        url = reference.get("reference") if isinstance(reference, dict) else None
        return self._by_url.get(url) if isinstance(url, str) else None

    def target(self, source: Source, *path: Step) -> Key | None:
        """The record that a Reference means; it is taken if it means one."""
        reference = source.look(*path)
        key = self._meant(source, reference) if isinstance(reference, dict) else None
        if key is not None:
            source.take(*path)
        return key

    def patient_of(self, source: Source) -> Key | None:
        """The patient that a resource names, in whichever element its type has for that."""
        actors = (("participant", at, "actor") for at in source.rows("participant"))
        for path in (("subject",), ("patient",), *actors):
            reference = source.look(*path)
            if isinstance(reference, dict) and self._is_patient(reference):
                return self._meant(source, reference)
        return None

    def _is_patient(self, reference: Json) -> bool:
        """Without following anything: a resource's patient that is no patient must lead nowhere."""
        own = key_in(reference.get("identifier"))
        if own is not None:
            return own.kind == "patient"
        there = self.source_of(reference)
        if there is not None:
            return there.type == "Patient"
        url = reference.get("reference")
        known = self._known.get(url) if isinstance(url, str) else None
        if known is not None:
            return known.kind == "patient"
        return (type_in(url) if isinstance(url, str) else "") == "Patient" or reference.get("type") == "Patient"

    def _meant(self, source: Source, reference: Json) -> Key | None:
        if (own := key_in(reference.get("identifier"))) is not None:
            return own
        there = self.source_of(reference)
        if there is not None:
            kind = RECORD_TYPES.get(there.type)
            return self.own(there) or (self.key(there, kind) if kind is not None else None)
        url = reference.get("reference")
        if isinstance(url, str) and url in self._known:
            return self._known[url]
        said = reference.get("type")
        kind_there = type_in(url) if isinstance(url, str) else ""
        kind_there = kind_there or (said if isinstance(said, str) else "")
        kind = RECORD_TYPES.get(kind_there)
        if kind is None:
            return None
        name = foreign_name(reference.get("identifier"))
        if name is not None:
            return self._derived(source, kind_there, kind, name)
        if not isinstance(url, str) or url.startswith("#"):
            return None
        if url.startswith("urn:") or "://" in url:
            return self._derived(source, kind_there, kind, url)
        return self._derived(source, kind_there, kind, "", url.split("/")[-1])

    # -- drafts --------------------------------------------------------------------------------------------------------

    def draft(self, key: Key, source: Source) -> Draft:
        """The record in the making; what our own extensions in this resource say is read here."""
        draft = self.drafts.get(key)
        if draft is None:
            draft = self.drafts[key] = Draft(key)
        draft.sources.append(source)
        if self.own(source) == key:
            self._read_own(draft, source)
        return draft

    def _read_own(self, draft: Draft, source: Source) -> None:
        for at in source.rows("identifier"):
            if key_in(source.look("identifier", at)) == draft.key:
                source.take("identifier", at)
                home = source.look("identifier", at, "assigner", "identifier", "value")
                if isinstance(home, str) and draft.facility is None:
                    draft.facility = home
        for at in range(source.count("extension")):
            exact = exact_in(source.look("extension", at))
            if exact is not None:
                source.take("extension", at)
                if exact.absent:
                    draft.absent.add(exact.name)
                else:
                    draft.exact.setdefault(exact.name, exact.value)

    def of_patient(self, draft: Draft, source: Source, *path: Step) -> bool:
        """Take the patient that a resource names; False where it names none."""
        key = self.target(source, *path)
        if key is None or key.kind != "patient":
            source.refuse("names no patient that can be told", *path)
            return False
        draft.patient = draft.patient or key.record
        return True

    def happened(self, draft: Draft, source: Source, *paths: tuple[Step, ...]) -> None:
        """Take the time from the first of these that names a day."""
        for path in paths:
            ms = time_in(source.look(*path))
            if ms is not None and draft.at in (None, documents.time_text(ms)):
                source.take(*path)
                draft.at = documents.time_text(ms)


def _utf8(text: str) -> bytes:
    """Bytes to hash; half a character, which JSON can spell, must not end the import."""
    return text.encode("utf-8", "surrogatepass")
