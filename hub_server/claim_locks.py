"""How long a doctor's claim keeps others away, and whom a referral was handed to.

A claim is a record that its doctor wrote; nobody else may write in that name, so nothing releases it "after a time".
It *lapses*: once the doctor has done nothing about the referral for a while (30 minutes unless set otherwise), another
one claims it without force, and that claim releases the lapsed one, as taking over always did (PROTOCOL.md §5). Until
then the records, and the centre, go on showing who claimed it; the queue says since when it has lain still.

In the same way nobody claims in another's name: handing over releases one's own claim and *offers* the referral to a
doctor by name. It waits for them alone, for the same while; then it is everybody's again.

This is knowledge of the hub's own, beside the records: it travels nowhere, and losing it loses nothing but time. Rows
are dropped after a day. It refuses to know who may do what (`consults`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hub_server.database import Connection
from sync_protocol.change import PatientId, PersonId, RecordId

DEFAULT_LAPSE_MS: Final = 30 * 60_000
MAX_LAPSE_MS: Final = 24 * 3_600_000
TOUCH_MS: Final = 60_000  # a doctor's doings are written down at most so often
SKEW_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class Lock:
    """touched_ms: 0 for never. handed_to: whom the referral waits for, with who handed it over, and when."""

    touched_ms: int = 0
    handed_to: PersonId | None = None
    handed_by: PersonId | None = None
    handed_ms: int = 0

    def lapses_ms(self, claimed_ms: int, lapse_ms: int) -> int:
        """When a claim stops keeping others away, if nothing more is done."""
        return max(claimed_ms, self.touched_ms) + lapse_ms

    def has_lapsed(self, claimed_ms: int, now_ms: int, lapse_ms: int) -> bool:
        """A time to come counts as none: this machine's clock was put back."""
        known = [at_ms for at_ms in (claimed_ms, self.touched_ms) if at_ms <= now_ms + SKEW_MS]
        return max(known, default=0) + lapse_ms <= now_ms

    def waits_for(self, now_ms: int, lapse_ms: int) -> PersonId | None:
        """The doctor whom it was handed to, while it waits for them."""
        return self.handed_to if -SKEW_MS <= now_ms - self.handed_ms < lapse_ms else None


def touch(connection: Connection, name: RecordId, doctor: PersonId, now_ms: int) -> bool:
    """The doctor does something about a referral that is claimed by them. Whether that was written down."""
    done = connection.execute(
        "INSERT INTO claim_lock (facility, referral, patient, touched_ms)"
        " SELECT p.facility, r.referral, r.patient, %(now)s FROM referral r JOIN patient p ON p.patient = r.patient"
        " WHERE r.referral = %(name)s AND r.facility = p.facility AND r.claimed_by = %(doctor)s"
        " ON CONFLICT (facility, referral) DO UPDATE SET touched_ms = EXCLUDED.touched_ms"
        " WHERE EXCLUDED.touched_ms NOT BETWEEN claim_lock.touched_ms - %(touch)s AND claim_lock.touched_ms + %(touch)s",
        {"now": now_ms, "name": name, "doctor": doctor, "touch": TOUCH_MS},
    )
    return done.rowcount == 1


def offer(connection: Connection, name: RecordId, patient: PatientId, to: PersonId, by: PersonId, now_ms: int) -> None:
    """From now on it waits for that doctor."""
    connection.execute(
        "INSERT INTO claim_lock (facility, referral, patient, handed_to, handed_by, handed_ms)"
        " SELECT facility, %s, patient, %s, %s, %s FROM patient WHERE patient = %s"
        " ON CONFLICT (facility, referral) DO UPDATE SET handed_to = EXCLUDED.handed_to,"
        " handed_by = EXCLUDED.handed_by, handed_ms = EXCLUDED.handed_ms, touched_ms = 0",
        (name, to, by, now_ms, patient),
    )


def clear(connection: Connection, name: RecordId, patient: PatientId) -> None:
    """A claim was written, or released: what was known before is of no use any more."""
    connection.execute("DELETE FROM claim_lock WHERE patient = %s AND referral = %s", (patient, name))


def drop_lapsed(connection: Connection, now_ms: int) -> int:
    """Remove what has lapsed by any setting; how many."""
    return connection.execute(
        "DELETE FROM claim_lock WHERE greatest(touched_ms, handed_ms) < %s", (now_ms - MAX_LAPSE_MS,)
    ).rowcount
