"""`hwc backup` and `hwc restore`: a copy of everything in one encrypted file, and the way back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from hwc_node import backup, keystore
from hwc_node.cli import console, looking, opening, words
from hwc_node.cli.opening import AsJson
from hwc_node.config import NodeConfig
from sync_protocol import documents

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def write_backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it.")],
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """\b
    Examples:
      hwc backup /media/usb/rampur-monday.hwcbackup
      hwc backup --yes /media/usb/rampur.hwcbackup

    Copy everything that is here into one file, while people work.

    The file is encrypted as the database is: it opens with the passphrases that open this node now. Keep it apart from
    this machine. --yes replaces a file of that name.
    """
    with opening.desk() as at:
        made = backup.write(at.store, file.absolute(), opening.now_ms(), replace=yes, program=looking.version())
    if as_json:
        console.document("hwc.backup/1", _shape(made) | {"file": str(file), "file_bytes": file.stat().st_size})
        return
    console.text(f"backed up {made.facility} into {file}, {file.stat().st_size:,} bytes")


def restore(
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="A file that 'hwc backup' wrote.")] = None,
    before_upgrade: Annotated[
        bool, typer.Option("--before-upgrade", help="Instead of a file: the copy from before the last upgrade.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """\b
    Examples:
      hwc restore /media/usb/rampur-monday.hwcbackup
      HWC_HOME=/srv/new hwc restore rampur-monday.hwcbackup
      hwc restore --before-upgrade

    Put a backup in the place of what is here, after checking all of it.

    What is here now is backed up first, beside the database, and nothing is changed when anything is wrong. The next
    'hwc sync' brings what came since, from the hub; what was saved after the backup and never sent is only in the file
    that this writes. Asks for a passphrase that opened the node when the backup was made, or opens it now.

    --before-upgrade is the way back to an older version of this program: install that one first.
    """
    if (file is None) != before_upgrade:
        raise typer.BadParameter("give either a FILE or --before-upgrade", param_hint="FILE")
    config = opening.configured()
    if file is None:
        _undo_upgrade(config, yes, as_json)
        return
    made = backup.read_manifest(file)
    console.say(f"A backup of {made.facility}, made {words.time(made.made_ms)}.")
    unlocked = backup.unlock(
        config, file, opening.passphrase("Passphrase: "), os.environ.get(opening.PERSON_VARIABLE) or None
    )
    if config.database_path.exists() and not yes:
        opening.confirm("Put it in the place of what is here? What is here is backed up first.")
    done = backup.restore(config, file, unlocked, opening.now_ms())
    if as_json:
        kept = str(done.kept) if done.kept is not None else None
        console.document("hwc.restore/1", _shape(done.manifest) | {"kept": kept})
        return
    console.text(f"restored {made.facility} as it was {words.time(made.made_ms)}")
    if done.kept is not None:
        console.text(f"what was here before is in {done.kept}")
    console.say("'hwc sync' brings what came since.")


def _undo_upgrade(config: NodeConfig, yes: bool, as_json: bool) -> None:
    unlocked = keystore.unlock(
        config.slots_path, opening.passphrase("Passphrase: "), os.environ.get(opening.PERSON_VARIABLE) or None
    )
    if not yes:
        opening.confirm("Put the copy from before the upgrade in the place of what is here? What is here is kept.")
    kept = backup.undo_upgrade(config, unlocked, opening.now_ms())
    if as_json:
        console.document("hwc.restore/1", {"kept": str(kept)})
        return
    console.text("restored what was here before the last upgrade", f"the upgraded database is in {kept}")
    console.say("'hwc sync' brings what came since.")


def _shape(made: backup.Manifest) -> dict[str, object]:
    return {
        "facility": made.facility,
        "node": documents.id_text(bytes.fromhex(made.node)),
        "made_at": documents.time_text(made.made_ms),
        "database_bytes": made.database_bytes,
        "program": made.program,
    }
