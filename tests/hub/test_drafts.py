"""Drafts of replies: of one doctor and one referral, sealed, bounded, gone when signed or with the patient."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hub_server import drafts, erasure, recovery, rotation
from hub_server.drafts import MAX_DRAFT_BYTES, Draft
from hub_server.ledger import Ledger
from hub_server.store import Store
from hub_server.vault import FileWrapper, Vault
from sync_protocol.change import RecordId
from sync_protocol.errors import BadSignature, InvalidValue, TooLarge
from tests.hub.bare_node import NOW_MS, BareNode
from tests.hub.hub_world import PATIENCE_S, HubWorld, wait_until
from tests.hub.test_consults import Ward
from tests.hub.test_consults import node as node
from tests.hub.test_consults import ward as ward

FIELDS = {"advice": ["Drink planted-water."], "drug_1": ["ORS"]}


def keep(ward: Ward, login: str, name: RecordId, fields: dict[str, list[str]], now_ms: int = NOW_MS) -> None:
    with ward.world.database.transaction() as connection:
        drafts.keep(ward.world.store, connection, ward.doctors[login].id, name, fields, now_ms, os.urandom(12))


def find(ward: Ward, login: str, name: RecordId) -> Draft | None:
    with ward.world.database.transaction() as connection:
        return drafts.find(ward.world.store, connection, ward.doctors[login].id, name)


def rows(ward: Ward) -> list[tuple[bytes, bytes]]:
    with ward.world.database.transaction() as connection:
        found = connection.execute("SELECT referral, sealed FROM draft ORDER BY at_ms, referral").fetchall()
    return [(bytes(name), bytes(sealed)) for name, sealed in found]


def test_a_draft_is_found_again_by_its_doctor_alone_and_the_last_one_counts(ward: Ward, node: BareNode) -> None:
    name, _ = ward.refer(node)
    assert find(ward, "rao", name) is None
    keep(ward, "rao", name, FIELDS)
    keep(ward, "rao", name, FIELDS | {"advice": ["Rest."]}, NOW_MS + 1)
    assert find(ward, "rao", name) == Draft(FIELDS | {"advice": ["Rest."]}, NOW_MS + 1)
    assert find(ward, "nair", name) is None
    with ward.world.database.transaction() as connection:
        assert drafts.begun(connection, ward.doctors["rao"].id) == {name: NOW_MS + 1}
        assert drafts.begun(connection, ward.doctors["nair"].id) == {}


def test_two_forms_of_a_page_that_are_kept_at_once_lose_neither(ward: Ward, node: BareNode) -> None:
    name, _ = ward.refer(node)
    store, doctor = ward.world.store, ward.doctors["rao"].id

    def keep_question() -> None:
        with ward.world.database.transaction() as connection:
            typed = {"text": ["Since when?"]}
            drafts.keep(
                store, connection, doctor, name, typed, NOW_MS, os.urandom(12), is_of_form=lambda one: one == "text"
            )

    with ThreadPoolExecutor(1) as beside:
        with ward.world.database.transaction() as connection:
            of_reply = {"is_of_form": lambda one: one != "text"}
            drafts.keep(store, connection, doctor, name, FIELDS, NOW_MS, os.urandom(12), **of_reply)
            asked = beside.submit(keep_question)
            wait_until(ward.world.somebody_waits)
        asked.result(PATIENCE_S)
    assert find(ward, "rao", name) == Draft(FIELDS | {"text": ["Since when?"]}, NOW_MS)


def test_a_draft_is_sealed_and_opens_in_its_own_place_only(ward: Ward, node: BareNode) -> None:
    (first, _), (second, _) = ward.refer(node), ward.refer(node)
    keep(ward, "rao", first, FIELDS)
    ((_, sealed),) = rows(ward)
    assert b"planted" not in sealed
    with ward.world.database.transaction() as connection:
        connection.execute("UPDATE draft SET person = %s", (ward.doctors["nair"].id,))
    with pytest.raises(BadSignature):
        find(ward, "nair", first)
    with ward.world.database.transaction() as connection:
        connection.execute("UPDATE draft SET person = %s, referral = %s", (ward.doctors["rao"].id, second))
    with pytest.raises(BadSignature):
        find(ward, "rao", second)


def test_what_is_too_long_is_refused_and_what_was_kept_stays(ward: Ward, node: BareNode) -> None:
    name, _ = ward.refer(node)
    keep(ward, "rao", name, FIELDS)
    with pytest.raises(TooLarge) as caught:
        keep(ward, "rao", name, {"advice": ["a" * MAX_DRAFT_BYTES]})
    assert caught.value.code == "E_DRAFT_TOO_LARGE"
    found = find(ward, "rao", name)
    assert found is not None
    assert found.fields == FIELDS


def test_of_too_many_the_oldest_goes_and_others_are_left_alone(
    ward: Ward, node: BareNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drafts, "MAX_DRAFTS", 2)
    names = [ward.refer(node)[0] for _ in range(3)]
    keep(ward, "nair", names[0], FIELDS)
    for at, name in enumerate(names):
        keep(ward, "rao", name, FIELDS, NOW_MS + at)
    assert [find(ward, "rao", name) is not None for name in names] == [False, True, True]
    assert find(ward, "nair", names[0]) is not None


def test_a_draft_goes_when_its_reply_is_signed_and_when_nobody_came_back(ward: Ward, node: BareNode) -> None:
    (first, _), (second, _) = ward.refer(node), ward.refer(node)
    for name in (first, second):
        keep(ward, "rao", name, FIELDS)
    keep(ward, "nair", first, FIELDS)
    ward.reply("rao", first)
    assert [find(ward, "rao", first), find(ward, "rao", second) is not None] == [None, True]
    assert find(ward, "nair", first) is not None
    for passed_ms, gone in ((drafts.KEPT_MS, 0), (drafts.KEPT_MS + 1, 2)):
        with ward.world.database.transaction() as connection:
            assert drafts.drop_old(connection, NOW_MS + passed_ms) == gone


def test_a_draft_is_erased_with_its_patient_and_none_comes_after(ward: Ward, node: BareNode) -> None:
    name, (patient, _, _) = ward.refer(node)
    keep(ward, "rao", name, FIELDS)
    erasure.erase(ward.world.store, patient.patient, "operator root", ward.tick())
    assert rows(ward) == []
    with pytest.raises(InvalidValue) as caught:
        keep(ward, "rao", name, FIELDS)
    assert caught.value.code == "E_NO_SUCH_REFERRAL"


def test_a_draft_opens_after_a_new_key_encryption_key_took_over(ward: Ward, node: BareNode, database_url: str) -> None:
    name, _ = ward.refer(node)
    keep(ward, "rao", name, FIELDS)
    rotation.rotate(ward.world.folder, "kek", NOW_MS + 1)
    after = HubWorld.make(database_url, ward.world.folder)
    with after.database.transaction() as connection:
        rotation.rewrap(connection, after.vault)
    identity = after.vault.identity
    alone = Store(after.database, Vault(identity, FileWrapper(identity.kek)))
    with after.database.transaction() as connection:
        found = drafts.find(alone, connection, ward.doctors["rao"].id, name)
    assert found is not None
    assert found.fields == FIELDS


def test_a_hub_that_was_put_back_erases_its_drafts_again(ward: Ward, node: BareNode, hub_folder: Path) -> None:
    name, (patient, _, _) = ward.refer(node)
    keep(ward, "rao", name, FIELDS)
    identity = ward.world.vault.identity
    ledger = Ledger(hub_folder / "ledger.txt", identity.signing, identity.environment)
    with ward.world.database.transaction() as connection:  # what happened after the backup that is put back
        Vault(identity, ledger=ledger).note(
            connection, "erased", {"patient": patient.patient.hex(), "home": "HWC1"}, NOW_MS
        )
        connection.execute("DELETE FROM setting WHERE key = 'ledger'")
    assert recovery.replay(ward.world.database, Vault(identity, ledger=ledger)) == 1
    assert rows(ward) == []


def test_a_draft_is_thrown_away_on_request(ward: Ward, node: BareNode) -> None:
    name, _ = ward.refer(node)
    keep(ward, "rao", name, FIELDS)
    with ward.world.database.transaction() as connection:
        doctor = ward.doctors["rao"].id
        assert [drafts.drop(connection, doctor, name) for _ in range(2)] == [True, False]
