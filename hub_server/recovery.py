"""A restored hub learns again what its ledger says happened since: hospitals, facilities, enrolments, revocations,
people, erasures, and which passwords and second factors were replaced (it forgets the old ones: their owners get new
ones from the operator).

Run before anything is served. Each line says what is so from then on, so repeating one changes nothing, and the lines
are replayed in their order. A database that has them all is only asked for one number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from hub_server import erasure, facilities, hospitals, nodes, people, registry, sign_in
from hub_server.database import Connection, Database
from hub_server.erasure import HeldOrder
from hub_server.ledger import Line
from hub_server.store import Store
from hub_server.vault import Vault
from sync_protocol import keys
from sync_protocol.change import NodeId, PatientId
from sync_protocol.errors import InvalidValue, NeedsPerson

_LOCK_KEY: Final = 7_461_004  # advisory lock: two programs starting on a restored database replay once


def replay(database: Database, vault: Vault) -> int:
    """How many lines the database did not know. Raises NeedsPerson (``E_LEDGER_DAMAGED``)."""
    ledger = vault.ledger
    if ledger is None or ledger.last == 0:
        return 0
    quiet = Store(database, Vault(vault.identity))  # without a ledger: what is replayed is not noted again
    with database.transaction() as connection:
        if known(connection) >= ledger.last:
            return 0
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK_KEY,))
        count, last = 0, known(connection)
        for line in ledger.lines(after=last):
            _REPLAYED.get(line.kind, _unknown)(connection, quiet, line)
            count, last = count + 1, line.seq
        connection.execute(
            "INSERT INTO setting (key, value) VALUES ('ledger', %s)"
            " ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value",
            (last.to_bytes(8, "big"),),
        )
    return count


def known(connection: Connection) -> int:
    """The number of the last line that this database knows."""
    row = connection.execute("SELECT value FROM setting WHERE key = 'ledger'").fetchone()
    return int.from_bytes(row[0], "big") if row else 0


def _facility(connection: Connection, store: Store, line: Line) -> None:
    """With a new key: what was encrypted under the lost one is not in this database either."""
    try:
        with connection.transaction():
            facilities.add(connection, store.vault, facilities.noted(line.body), line.at_ms)
    except InvalidValue as error:
        if error.code != "E_FACILITY_EXISTS":  # with other particulars: those of the database are newer
            raise


def _facility_changed(connection: Connection, store: Store, line: Line) -> None:
    facilities.change(connection, store.vault, facilities.noted(line.body), line.at_ms)


def _hospital(connection: Connection, _store: Store, line: Line) -> None:
    hospitals.keep(connection, line.body["hub"], line.body["name"], line.at_ms)


def _node(connection: Connection, store: Store, line: Line) -> None:
    identity = store.vault.identity
    raw = bytes.fromhex(line.body["certificate"])
    certificate = keys.verify_document(raw, keys.Certificate, identity.root.verifier, identity.environment)
    nodes.register_again(connection, certificate, raw, bytes.fromhex(line.body["code_hash"]))


def _revoked(connection: Connection, store: Store, line: Line) -> None:
    node, reason = NodeId(bytes.fromhex(line.body["node"])), line.body["reason"]
    nodes.revoke(connection, store.vault, node, reason, line.at_ms)


def _reinstated(connection: Connection, store: Store, line: Line) -> None:
    node = NodeId(bytes.fromhex(line.body["node"]))
    registry.take_back_revocation(connection, store.vault, node, line.at_ms)


def _person(connection: Connection, _store: Store, line: Line) -> None:
    try:
        people.add(connection, people.noted(line.body))
    except InvalidValue as error:
        if error.code != "E_LOGIN_TAKEN":
            raise


def _person_assigned(connection: Connection, _store: Store, line: Line) -> None:
    person = people.noted(line.body)
    people.assign(connection, person.login, person.hub, person.specialties)


def _person_disabled(connection: Connection, _store: Store, line: Line) -> None:
    people.disable(connection, line.body["login"], line.at_ms)


def _password_set(connection: Connection, _store: Store, line: Line) -> None:
    sign_in.forget_password_before(connection, line.body["login"], line.at_ms)


def _second_factor_set(connection: Connection, _store: Store, line: Line) -> None:
    sign_in.forget_totp_before(connection, line.body["login"], line.at_ms)


def _erased(connection: Connection, store: Store, line: Line) -> None:
    """Again, and the order is given again: the nodes may have had the one that was lost, or not."""
    patient, home = PatientId(bytes.fromhex(line.body["patient"])), line.body["home"]
    erasure.remember_erased(connection, patient, home, line.at_ms)
    erasure.carry_out(connection, store, patient, line.at_ms)


def _erasure_held(connection: Connection, _store: Store, line: Line) -> None:
    patient, said = PatientId(bytes.fromhex(line.body["patient"])), line.body
    erasure.keep_order(connection, HeldOrder(patient, int(said["until_ms"]), said["reason"], line.at_ms))


def _erasure_released(connection: Connection, _store: Store, line: Line) -> None:
    erasure.drop_order(connection, PatientId(bytes.fromhex(line.body["patient"])))


def _unknown(_connection: Connection, _store: Store, line: Line) -> None:
    raise NeedsPerson(
        f"the hub's ledger has a line {line.seq} that a newer version of this program wrote; nothing was changed",
        code="E_LEDGER_NEWER",
        next_step="install that version, or a later one",
    )


_REPLAYED: Final[dict[str, Callable[[Connection, Store, Line], Any]]] = {
    "hospital": _hospital,
    "facility": _facility,
    "facility_changed": _facility_changed,
    "node": _node,
    "revoked": _revoked,
    "reinstated": _reinstated,
    "person": _person,
    "person_assigned": _person_assigned,
    "person_disabled": _person_disabled,
    "password_set": _password_set,
    "second_factor_set": _second_factor_set,
    "erased": _erased,
    "erasure_held": _erasure_held,
    "erasure_released": _erasure_released,
}
