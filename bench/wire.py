"""`wire`: bytes on the wire a record, segment bodies with their envelopes, of facilities that the dictionary never saw.

The comparison is the same documents as JSON under gzip, without any seal, signature or history.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Sequence
from statistics import median
from typing import Any, Final

from bench.figures import Figure, of_rounds
from bench.train_dictionary import changes_of
from bench.visits import Visits
from sync_protocol import envelope, keys, segment
from sync_protocol.change import Change
from sync_protocol.keys import EnvironmentId, Grant, Identity

BACKLOG_RECORDS: Final = 50
FACILITIES: Final = 20
SEED: Final = 9
VISIT: Final = ("case", "vitals", "referral")


def run() -> list[Figure]:
    backlogs, visits, gzipped_backlogs, gzipped_visits = [], [], [], []
    for facility in range(1, FACILITIES + 1):
        changes = list(changes_of(facility, 40, SEED, replies=False))
        documents = list(Visits(facility, SEED).documents(40))
        backlogs.append(_size(changes[:BACKLOG_RECORDS]) / BACKLOG_RECORDS)
        gzipped_backlogs.append(_gzipped(documents[:BACKLOG_RECORDS]) / BACKLOG_RECORDS)
        start = next(at for at, one in enumerate(changes) if one.kind == "case")
        visits.append(float(_size(changes[start : start + 3])))
        gzipped_visits.append(float(_gzipped([one for one in documents if one["kind"] in VISIT][:3])))
    return [
        of_rounds("wire", f"a record of {BACKLOG_RECORDS}", "bytes", backlogs, gzipped_backlogs, "gzip of JSON"),
        of_rounds("wire", "case, vitals and referral", "bytes", visits, gzipped_visits, "gzip of JSON"),
        Figure("wire", "overhead of an envelope", float(envelope.OVERHEAD_BYTES), "bytes"),
        Figure("wire", "largest of the visits", median([max(visits)]), "bytes"),
    ]


def _size(batch: Sequence[Change]) -> int:
    """Bytes of one sealed segment with these changes."""
    signer = Identity(bytes(32))
    grant = Grant(bytes(32), keys.TO_HUB, EnvironmentId(bytes(16)))
    packed = segment.pack(
        batch,
        segment.MAX_SEGMENT_BYTES,
        lane=segment.LANE_REST,
        grant=grant,
        sender=batch[0].node,
        signer=signer,
        nonce=os.urandom(envelope.NONCE_BYTES),
    )
    return len(packed.envelope.raw)


def _gzipped(documents: list[dict[str, Any]]) -> int:
    return len(gzip.compress(json.dumps(documents, ensure_ascii=False, separators=(",", ":")).encode(), 9))
