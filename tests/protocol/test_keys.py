"""Keys: what is signed, sealed, granted and carried by people; nothing opens for whom it was not meant."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_protocol import keys
from sync_protocol.errors import (
    BadSignature,
    HealthSyncError,
    InvalidValue,
    Malformed,
    TheirBytes,
    TooLarge,
    WrongRecipient,
)
from sync_protocol.keys import (
    ROLE_INGEST,
    ROLE_RECOVERY,
    TO_HUB,
    TO_NODE,
    Certificate,
    EnrolmentCode,
    EnrolmentRequest,
    EnvironmentId,
    Grant,
    GrantFrame,
    HubKeys,
    Identity,
    Recipient,
    RecipientPublic,
    Verifier,
)
from tests.strategies import (
    ENVIRONMENT,
    GRANT,
    HUB,
    HUB_IDENTITY,
    NODE,
    NODE_IDENTITY,
    OTHER_ENVIRONMENT,
    OTHER_IDENTITY,
    TIME_NOW_MS,
)

INGEST = Recipient(b"m" * 64, b"x" * 32)
RECOVERY = Recipient(b"M" * 64, b"X" * 32)
CERTIFICATE = Certificate(1, ENVIRONMENT, NODE, "HWC000001", "shelf", NODE_IDENTITY.public, INGEST.public.public, 5)
HUB_KEYS = HubKeys(
    1,
    ENVIRONMENT,
    HUB,
    OTHER_IDENTITY.public,
    HUB_IDENTITY.public,
    [
        (ROLE_INGEST, RECOVERY.public.public),
        (ROLE_INGEST, INGEST.public.public),
        (ROLE_RECOVERY, RECOVERY.public.public),
    ],
    1,
    TIME_NOW_MS,
)
REQUEST = EnrolmentRequest(1, b"code secret", NODE, "shelf", NODE_IDENTITY.public, INGEST.public.public)


def _frame(signer: Identity = NODE_IDENTITY, grant: Grant = GRANT, to: RecipientPublic = INGEST.public) -> bytes:
    return keys.seal_grant(grant, NODE, signer, to, ROLE_INGEST, TIME_NOW_MS, keys.hpke_seal)


def _open(raw: bytes, recipient: Recipient = INGEST, environment: EnvironmentId = ENVIRONMENT) -> Grant:
    return keys.open_grant(raw, NODE_IDENTITY.verifier, recipient, environment)


# -- signatures and documents ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", [CERTIFICATE, HUB_KEYS, REQUEST], ids=lambda one: type(one).__name__)
def test_a_signed_document_survives_and_any_flipped_byte_is_refused(document: Any) -> None:
    raw = keys.sign_document(document, OTHER_IDENTITY, ENVIRONMENT)
    assert keys.verify_document(raw, type(document), OTHER_IDENTITY.verifier, ENVIRONMENT) == document
    for at in [*range(90), *range(90, len(raw), 101), len(raw) - 1]:
        with pytest.raises(TheirBytes):
            flipped = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
            keys.verify_document(flipped, type(document), OTHER_IDENTITY.verifier, ENVIRONMENT)
    for at in [*range(90), len(raw) - 1]:
        with pytest.raises(TheirBytes):
            keys.verify_document(raw[:at], type(document), OTHER_IDENTITY.verifier, ENVIRONMENT)


def test_a_signature_is_bound_to_signer_environment_and_purpose() -> None:
    raw = keys.sign_document(CERTIFICATE, OTHER_IDENTITY, ENVIRONMENT)
    with pytest.raises(BadSignature):
        keys.verify_document(raw, Certificate, HUB_IDENTITY.verifier, ENVIRONMENT)
    with pytest.raises(BadSignature):
        keys.verify_document(raw, Certificate, OTHER_IDENTITY.verifier, OTHER_ENVIRONMENT)
    body = msgspec.msgpack.encode(CERTIFICATE)
    with pytest.raises(BadSignature):
        wrong = OTHER_IDENTITY.sign("hub keys", ENVIRONMENT, body) + body
        keys.verify_document(wrong, Certificate, OTHER_IDENTITY.verifier, ENVIRONMENT)


@given(st.binary(max_size=200), st.sampled_from([Certificate, HubKeys, EnrolmentRequest, GrantFrame]))
def test_any_bytes_are_no_document(raw: bytes, shape: type[Any]) -> None:
    with pytest.raises(TheirBytes):
        keys.verify_document(raw, shape, OTHER_IDENTITY.verifier, ENVIRONMENT)


def test_documents_nested_deep_or_too_large_are_refused() -> None:
    for deep in (b"\x91" * 16_000 + b"\xc0", b"\x81\xa0" * 8_000 + b"\xc0"):
        with pytest.raises(Malformed):
            keys.read_document(bytes(64) + deep, HubKeys)
    with pytest.raises(TooLarge):
        keys.read_document(bytes(keys.MAX_DOCUMENT_BYTES + 1), HubKeys)


def test_the_hubs_keys_are_believed_only_with_the_fingerprint_of_the_code() -> None:
    raw = keys.sign_document(HUB_KEYS, OTHER_IDENTITY, ENVIRONMENT)
    assert keys.verify_hub_keys(raw, keys.fingerprint(OTHER_IDENTITY.public)) == HUB_KEYS
    with pytest.raises(BadSignature) as caught:
        keys.verify_hub_keys(raw, keys.fingerprint(HUB_IDENTITY.public))
    assert caught.value.code == "E_WRONG_HUB"
    impostor = keys.sign_document(HUB_KEYS, HUB_IDENTITY, ENVIRONMENT)
    with pytest.raises(BadSignature):
        keys.verify_hub_keys(impostor, keys.fingerprint(OTHER_IDENTITY.public))


def test_the_newest_key_of_a_role_counts() -> None:
    assert HUB_KEYS.recipient(ROLE_INGEST) == INGEST.public
    with pytest.raises(Malformed):
        HUB_KEYS.recipient("unknown")


@given(st.binary(max_size=40))
def test_a_public_key_of_any_bytes_is_taken_or_refused(public: bytes) -> None:
    try:
        Verifier(public)
    except Malformed:
        assert len(public) != 32


# -- sealing and grants ------------------------------------------------------------------------------------------------


def test_what_is_sealed_opens_only_for_its_recipient_and_info() -> None:
    sealed = keys.hpke_seal(INGEST.public, b"secret", b"info")
    assert INGEST.open(sealed, b"info") == b"secret"
    for recipient, info in ((RECOVERY, b"info"), (INGEST, b"other")):
        with pytest.raises(WrongRecipient):
            recipient.open(sealed, info)
    for at in (0, 700, 1100, len(sealed) - 1):
        with pytest.raises(WrongRecipient):
            INGEST.open(sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :], b"info")
    for size in (0, 1, 1087, 1088, 1120, 1135, len(sealed) - 1):
        with pytest.raises(WrongRecipient):
            INGEST.open(sealed[:size], b"info")


def test_a_recipient_is_its_two_seeds() -> None:
    assert Recipient.from_seeds(INGEST.seeds) == INGEST
    with pytest.raises(Malformed):
        Recipient.from_seeds(INGEST.seeds[1:])


@pytest.mark.parametrize(
    "public",
    [
        b"",
        bytes(keys.RECIPIENT_PUBLIC_BYTES - 1),
        bytes(keys.RECIPIENT_PUBLIC_BYTES),
        b"\xff" * keys.RECIPIENT_PUBLIC_BYTES,
        INGEST.public.public[: keys.ML_KEM_PUBLIC_BYTES] + bytes(32),
        INGEST.public.public[: keys.ML_KEM_PUBLIC_BYTES] + b"\x01" + bytes(31),
        random.Random(5).randbytes(keys.RECIPIENT_PUBLIC_BYTES),
    ],
    ids=range(7),
)
def test_sealing_to_a_key_that_is_none_is_refused_with_our_own_error(public: bytes) -> None:
    """A node brings its sealing key at its enrolment: a hub that seals to it must not fall over."""
    with pytest.raises(Malformed):
        RecipientPublic(public).seal(b"secret", b"info")


def test_a_grant_opens_for_its_recipient_and_is_the_same_grant() -> None:
    raw = _frame()
    assert _open(raw) == GRANT
    assert len(msgspec.msgpack.decode(raw[64:])[7]) == keys.SEALED_SECRET_BYTES


def test_a_grant_is_refused_by_another_recipient_environment_or_maker() -> None:
    raw = _frame()
    with pytest.raises(WrongRecipient):
        _open(raw, RECOVERY)
    with pytest.raises(BadSignature):
        _open(raw, environment=OTHER_ENVIRONMENT)
    with pytest.raises(BadSignature):
        _open(_frame(OTHER_IDENTITY))


@pytest.mark.parametrize(
    ("altered", "error"),
    [
        ({"direction": TO_NODE}, WrongRecipient),
        ({"maker": HUB}, WrongRecipient),
        ({"role": ROLE_RECOVERY}, WrongRecipient),
        ({"key_id": bytes(8)}, WrongRecipient),
        ({"grant": bytes(16)}, WrongRecipient),
        ({"sealed": b""}, WrongRecipient),
    ],
    ids=repr,
)
def test_a_grant_moved_to_another_purpose_does_not_open(altered: dict[str, Any], error: type[TheirBytes]) -> None:
    """Even by its own maker, who can sign anything."""
    frame, _, _ = keys.read_document(_frame(), GrantFrame)
    moved = keys.sign_document(msgspec.structs.replace(frame, **altered), NODE_IDENTITY, ENVIRONMENT)
    with pytest.raises(error):
        _open(moved)


def test_a_grant_whose_id_does_not_name_its_secret_is_refused() -> None:
    def seal(to: RecipientPublic, _plain: bytes, info: bytes) -> bytes:
        return to.seal(b"another secret of 32 bytes......", info)

    raw = keys.seal_grant(GRANT, NODE, NODE_IDENTITY, INGEST.public, ROLE_INGEST, TIME_NOW_MS, seal)
    with pytest.raises(BadSignature):
        _open(raw)


def test_grants_differ_by_secret_direction_and_environment() -> None:
    grants = [
        GRANT,
        Grant(b"z" * 32, TO_HUB, ENVIRONMENT),
        Grant(GRANT.secret, TO_NODE, ENVIRONMENT),
        Grant(GRANT.secret, TO_HUB, OTHER_ENVIRONMENT),
    ]
    assert len({grant.key for grant in grants}) == 4
    assert repr(GRANT.secret) not in repr(GRANT) and repr(GRANT.key) not in repr(GRANT)
    assert repr(INGEST.x25519_seed) not in repr(INGEST) and repr(NODE_IDENTITY.seed) not in repr(NODE_IDENTITY)


# -- what people carry -------------------------------------------------------------------------------------------------

CODE = EnrolmentCode(b"0123456789", keys.fingerprint(OTHER_IDENTITY.public), "https://hub.example")


@given(st.binary(max_size=40))
def test_base32_survives(raw: bytes) -> None:
    text = keys.base32_text(raw)
    assert keys.base32_bytes(text, len(raw)) == raw
    assert keys.base32_bytes(text.lower().replace("0", "o").replace("1", "l").replace("-", " "), len(raw)) == raw


def test_a_code_survives_however_it_is_typed() -> None:
    text = CODE.text()
    assert keys.parse_code(text) == CODE
    letters, _, url = text.partition("@")
    assert keys.parse_code(f"  {letters.lower().replace('-', '')}@{url}\n") == CODE


def test_a_code_with_any_letter_wrong_is_known_before_it_is_sent() -> None:
    letters, _, url = CODE.text().partition("@")
    for at, letter in enumerate(letters):
        if letter != "-":
            wrong = letters[:at] + ("7" if letter != "7" else "8") + letters[at + 1 :]
            with pytest.raises(InvalidValue) as caught:
                keys.parse_code(f"{wrong}@{url}")
            assert caught.value.code == "E_CODE_MISTYPED" and caught.value.next_step
        with pytest.raises(InvalidValue):
            keys.parse_code(letters[:at])


@given(st.text(max_size=60))
def test_any_text_is_a_code_or_refused(text: str) -> None:
    with pytest.raises(HealthSyncError):
        keys.parse_code(text)


def test_the_hash_of_a_code_is_what_the_hub_keeps() -> None:
    assert len(keys.code_hash(CODE.secret)) == 32 and CODE.secret not in keys.code_hash(CODE.secret)
