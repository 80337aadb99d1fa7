"""Looks for what needs a person at this node, and names the command that mends each.

Rules: `concerns` is cheap and decided from plain values (`hwc status --check`); `checkup` also reads the whole
database (`hwc doctor`). Looking changes nothing. No finding repeats a patient's data.
"""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from hwc_node import keystore, standing
from hwc_node.config import OTHERS, NodeConfig
from hwc_node.standing import Standing
from hwc_node.store import Store

DAY_MS: Final = 86_400_000
HOUR_MS: Final = 3_600_000
SILENT_DAYS: Final = 14  # weeks without a link happen; two of them are worth a look at the modem
BACKUP_DAYS: Final = 30  # what a centre that sends daily could lose by a dying disk is little
CLOCK_ERROR_MS: Final = 10 * 60_000  # ten minutes: more, and people misread what came first
LITTLE_SPACE_BYTES: Final = 500 * 1024 * 1024
NO_SPACE_BYTES: Final = 50 * 1024 * 1024  # SQLite's log and one backup of a small centre need about that
WORD_OF_ERROR: Final = {
    "E_REVOKED": "the hub has revoked this node",
    "E_UNKNOWN_NODE": "the hub does not know this node",
    "E_OTHER_ENVIRONMENT": "the hub belongs to another environment",
}


class Grade(str, Enum):
    FINE = "fine"
    LOOK = "look"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. mend: the command or the deed that mends it, empty where it is fine."""

    name: str
    grade: Grade
    said: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Space:
    """The disk that the home is on."""

    database_bytes: int
    free_bytes: int


def space(config: NodeConfig, now: Standing) -> Space:
    return Space(now.database_bytes, shutil.disk_usage(config.home).free)


def concerns(now: Standing, room: Space, now_ms: int) -> list[Check]:
    """Everything that the node's standing tells, good and bad."""
    return [
        _hub(now, now_ms),
        _count("conflicts", now.conflicts_open, "fields wait for a person's decision", "hwc conflicts list"),
        _count("quarantine", now.set_aside, f"changes were set aside{_reasons(now)}", "tell the hub's operator"),
        _count("unread", now.unread_items, "items of the hub's feed cannot be read here", "update this program"),
        _count("news", now.questioned, "pieces of news would hide or erase much of what is here", "hwc news"),
        _clock(now),
        _disk(room),
        _backup(now, now_ms),
    ]


def needing(checks: list[Check]) -> list[Check]:
    """Those that need a person."""
    return [check for check in checks if check.grade is not Grade.FINE]


def checkup(config: NodeConfig, store: Store, now_ms: int) -> Iterator[Check]:
    """Every check, one after another; the later ones read the whole database."""
    now = standing.standing(store)
    yield _files(config)
    yield _slots(config)
    yield from concerns(now, space(config, now), now_ms)
    findings = standing.integrity(store)
    for finding in findings:
        yield Check("database", Grade.BROKEN, f"{finding.message} [{finding.code}]", finding.next_step)
    if not findings:
        yield Check("database", Grade.FINE, f"sound; {now.records} records, {now.changes} changes")
    dangling = standing.dangling(store)
    said = f"{dangling} names of changes that have not arrived" if dangling else "no name points at a missing change"
    yield Check("history", Grade.FINE, said)  # what is missing may be on its way; it is counted, never refused


def _hub(now: Standing, now_ms: int) -> Check:
    if now.last_error in WORD_OF_ERROR:
        said = f"{WORD_OF_ERROR[now.last_error]} [{now.last_error}]; everything is kept"
        return Check("hub", Grade.BROKEN, said, "ask the hub's operator for a new code: hub enrol FACILITY")
    waiting = f"{now.pending_changes} changes wait" if now.pending_changes else "nothing waits"
    failed = f"; the last try ended with {now.last_error}" if now.last_error else ""
    if now.last_success_ms is None:
        waits_days = (now_ms - (now.oldest_pending_ms or now_ms)) // DAY_MS
        if waits_days >= SILENT_DAYS:
            return Check("hub", Grade.LOOK, f"never synced; {waiting}{failed}", "check the link, then: hwc sync")
        return Check("hub", Grade.FINE, f"never synced; {waiting}{failed}")
    days = (now_ms - now.last_success_ms) // DAY_MS
    if days >= SILENT_DAYS:
        return Check(
            "hub", Grade.LOOK, f"not synced for {days} days; {waiting}{failed}", "check the link, then: hwc sync"
        )
    hours = max(0, now_ms - now.last_success_ms) // HOUR_MS
    return Check("hub", Grade.FINE, f"synced {hours} h ago; {waiting}{failed}")


def _count(name: str, count: int, said: str, mend: str) -> Check:
    return Check(name, Grade.LOOK, f"{count} {said}", mend) if count else Check(name, Grade.FINE, "none")


def _reasons(now: Standing) -> str:
    told = ", ".join(f"{reason}: {count}" for reason, count in sorted(now.set_aside_reasons.items()))
    return f" ({told})" if told else ""


def _clock(now: Standing) -> Check:
    error_ms = now.clock_error_ms
    if error_ms is None:
        return Check("clock", Grade.FINE, "not compared with the hub's yet")
    minutes = abs(error_ms) / 60_000
    way = "ahead of" if error_ms > 0 else "behind"
    if abs(error_ms) < CLOCK_ERROR_MS:
        return Check("clock", Grade.FINE, f"within {minutes:.1f} minutes of the hub's")
    return Check("clock", Grade.LOOK, f"{minutes:,.0f} minutes {way} the hub's", "set this machine's date and time")


def _disk(room: Space) -> Check:
    free = f"{room.free_bytes / 1e6:,.0f} MB free, the database takes {room.database_bytes / 1e6:,.1f} MB"
    if room.free_bytes < NO_SPACE_BYTES:
        return Check("disk", Grade.BROKEN, free, "free some space on this disk")
    if room.free_bytes < LITTLE_SPACE_BYTES:
        return Check("disk", Grade.LOOK, free, "free some space on this disk")
    return Check("disk", Grade.FINE, free)


def _backup(now: Standing, now_ms: int) -> Check:
    """What was saved and not sent exists once: a disk that dies takes it along."""
    since_ms = now.last_backup_ms if now.last_backup_ms is not None else now.enrolled_ms
    days = max(0, now_ms - since_ms) // DAY_MS if since_ms is not None else 0
    said = f"{days} days ago" if now.last_backup_ms is not None else "none yet"
    if days >= BACKUP_DAYS:
        return Check(
            "backup", Grade.LOOK, f"{said}, for {days} days" if said == "none yet" else said, "hwc backup FILE"
        )
    return Check("backup", Grade.FINE, said)


def _files(config: NodeConfig) -> Check:
    """Nobody but the owner may open the home and what is in it."""
    watched = (config.home, config.slots_path, config.database_path, config.config_file, config.https_path)
    loose = [path for path in watched if _open_to_others(path)]
    if loose:
        names = ", ".join(path.name for path in loose)
        return Check("files", Grade.LOOK, f"others on this machine may open {names}", f"chmod -R go= {config.home}")
    return Check("files", Grade.FINE, f"{config.home} is open to its owner only")


def _open_to_others(path: Path) -> bool:
    try:
        return bool(stat.S_IMODE(path.stat().st_mode) & OTHERS)
    except OSError:
        return False


def _slots(config: NodeConfig) -> Check:
    found = keystore.slots(config.slots_path)
    one = "; a forgotten passphrase then locks everybody out" if len(found) == 1 else ""
    return Check("key slots", Grade.FINE, f"{len(found)}{one}")
