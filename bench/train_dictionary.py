"""Trains the compression dictionary of segments and feeds from made-up visits.

    python -m bench.train_dictionary 1

writes ``sync_protocol/dictionaries/1.zdict``. A dictionary carries pieces of what it was trained on, so it is trained
on `bench.visits` only, never on records. Its number is part of the protocol: a released one is never changed, old
ones stay readable, and a better one gets the next number. The facilities used here are used by no benchmark.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import zstandard

from bench.visits import Visits
from sync_protocol import codec, documents, hlc, replica
from sync_protocol.change import Change, FacilityCode, NodeId, PatientId, PersonId, RecordKey
from sync_protocol.hlc import Hlc
from sync_protocol.replica import Author
from sync_protocol.schema import Writer

DICTIONARY_BYTES = 32 * 1024  # loaded once by each process; twice the size gains less than two per cent
FIRST_FACILITY = 900_000  # out of the way of every benchmark
FACILITIES = 160
CONSULTATIONS = 30


def changes_of(facility: int, consultations: int, seed: int, *, replies: bool = True) -> Iterator[Change]:
    """The changes that these visits make, with ids and salts drawn from the seed."""
    rng = random.Random(f"{seed}:{facility}")
    visits = Visits(facility, seed)
    node, person = NodeId(rng.randbytes(16)), PersonId(rng.randbytes(16))
    salts: dict[bytes, bytes] = {}
    stamp = Hlc(0)
    for line in visits.documents(consultations, replies=replies):
        parsed = documents.parse(line, facility=visits.facility)
        writer = Writer.DOCTOR if parsed.kind == "reply" else Writer.CENTRE
        for document in (parsed, *parsed.extra):
            patient = document.patient or PatientId(document.record)
            stamp = hlc.tick(stamp, line["at"] + rng.randint(0, 5_000))
            salt = salts.setdefault(patient, rng.randbytes(16))
            by = Author(writer, FacilityCode(visits.facility), node, person, stamp, 0, salt)
            yield replica.author(by, RecordKey(document.kind, document.record), patient, document.writes)


def samples() -> Iterator[bytes]:
    """Blocks of the sizes that travel: single visits, small syncs, backlogs."""
    rng = random.Random(7)
    for facility in range(FIRST_FACILITY, FIRST_FACILITY + FACILITIES):
        changes = list(changes_of(facility, CONSULTATIONS, seed=41))
        while changes:
            count = rng.choice([1, 2, 3, 3, 4, 6, 8, 12, 20, 50])
            yield b"\x92\xc6\x00\x00\x10\x00" + codec.pack(changes[:count], changes[0].node) + b"\x90"
            changes = changes[count:]


def main() -> None:
    number = int(sys.argv[1])
    trained = zstandard.train_dictionary(DICTIONARY_BYTES, list(samples()), level=12, dict_id=number)
    folder = Path(__file__).parent.parent / "sync_protocol" / "dictionaries"
    folder.mkdir(exist_ok=True)
    (folder / f"{number}.zdict").write_bytes(trained.as_bytes())
    print(f"dictionary {number}: {len(trained.as_bytes())} bytes")


if __name__ == "__main__":
    main()
